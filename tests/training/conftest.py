"""The fixtures of `conftest_training`."""

from conftest_training import pairs, tiny, tiny_folder  # noqa: F401
