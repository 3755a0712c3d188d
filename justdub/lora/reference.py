"""How a user names an adapter: ``PATH[:STRENGTH]``. Light: the command line reads it before torch is loaded."""

from __future__ import annotations

from pathlib import Path


def parse_reference(text: str) -> tuple[Path, float]:
    """``PATH[:STRENGTH]`` as the command line takes it. A colon belongs to the path unless a number follows it."""
    head, colon, tail = text.rpartition(":")
    if colon and head:
        try:
            return Path(head), float(tail)
        except ValueError:
            pass
    return Path(text), 1.0
