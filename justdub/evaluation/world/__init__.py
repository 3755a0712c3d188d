"""Judges of clips of the drawn world, trained on its true clips only, and the table of what they find."""
