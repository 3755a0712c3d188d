"""The fixtures of `tiny_training`."""

from tiny_training import pairs, tiny, tiny_folder  # noqa: F401
