"""Published numbers, to stand beside ours: always with whose they are.

`literature.json` holds tables by name; a value is in the unit of the metric of that key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from justdub.errors import UsageError

_FILE = Path(__file__).parent / "literature.json"


@dataclass(frozen=True)
class PublishedRow:
    """system: its name. values: by key of the metric. source: who printed the numbers."""

    system: str
    values: dict[str, float]
    source: str


@dataclass(frozen=True)
class PublishedTable:
    """title: data set and setting. rows: in the order of their source."""

    title: str
    rows: tuple[PublishedRow, ...]


@lru_cache(maxsize=1)
def tables() -> dict[str, PublishedTable]:
    """All, by name."""
    tree = json.loads(_FILE.read_text(encoding="utf-8"))
    sources = tree["sources"]
    return {
        name: PublishedTable(
            one["title"],
            tuple(
                PublishedRow(system, values, sources[one["source"]]) for system, values in one["rows"].items()
            ),
        )
        for name, one in tree["tables"].items()
    }  # fmt: skip


def load(name: str) -> PublishedTable:
    """One table; raises UsageError for an unknown name."""
    if name not in tables():
        raise UsageError(f"no table {name!r} of published numbers", expected=f"one of {', '.join(tables())}")
    return tables()[name]
