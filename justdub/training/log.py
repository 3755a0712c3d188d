"""The log of a run: JSON lines always, other trackers through accelerate when asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Log:
    """Appends lines to ``log.jsonl``; a resumed run forgets the lines after its state.

    Args:
        step: updates done so far. report: is given every line. track: sends figures of a step to other trackers.
    """

    def __init__(
        self,
        path: Path,
        step: int,
        report: Callable[[dict[str, Any]], None] | None = None,
        track: Callable[[dict[str, Any], int], None] | None = None,
    ) -> None:
        self.path, self.report, self.track = path, report, track
        self.sums: dict[str, list[float]] = {}
        if path.exists():
            kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _whole(line, step)]
            partial = path.with_name(f".{path.name}.part")
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            partial.replace(path)

    def add(self, **figures: float) -> None:
        """Figures of one update, averaged until the next line."""
        for name, value in figures.items():
            self.sums.setdefault(name, []).append(value)

    def write(self, step: int, **figures: Any) -> None:
        """One line: the means of what was added since the last, and `figures`."""
        means = {name: sum(values) / len(values) for name, values in self.sums.items()}
        self.sums = {}
        line = {"step": step} | {name: _rounded(value) for name, value in (means | figures).items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if self.track is not None:
            self.track({name: value for name, value in line.items() if isinstance(value, float)}, step)
        if self.report is not None:
            self.report(line)


def _whole(line: str, step: int) -> bool:
    """Whether a line is complete (a killed run may leave half of one) and not after `step`."""
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError):
        return False


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
