"""Measuring results: what a model made against what is true."""
