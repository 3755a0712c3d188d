"""One file per metric: pure functions with their sources, and the `METRICS` that they are published as."""
