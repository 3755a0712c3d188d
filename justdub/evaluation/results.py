"""What a run found: of every clip, of every row, as JSON and CSV.

results.json   everything; `justdub eval compare` reads it
clips.csv      one line per clip of the system, one column per metric
summary.csv    one line per row, group and metric: mean and interval
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from justdub.errors import BadInputError
from justdub.evaluation.metric import Metric, NotComputed, Outcome, SetMetric
from justdub.evaluation.statistics import Interval, interval

FORMAT = 1


@dataclass(frozen=True)
class ClipResult:
    """Of one clip: its labels, and the outcome of every metric by key. `digests` are SHA-256 of source and dub."""

    name: str
    outcomes: dict[str, Outcome]
    text: str = ""
    language: str = ""
    difficulty: str = ""
    fault: str = ""
    notes: tuple[str, ...] = ()
    digests: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One system or control: its clips, and the outcomes of metrics of all clips together."""

    name: str
    clips: tuple[ClipResult, ...]
    together: dict[str, Outcome]


@dataclass(frozen=True)
class Results:
    """A run: rows (the system first), the metrics' definitions, settings, versions, faults that belong to no clip."""

    rows: tuple[Row, ...]
    metrics: tuple[Metric | SetMetric, ...]
    settings: dict[str, Any]
    versions: dict[str, str]
    faults: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def system(self) -> Row:
        return self.rows[0]

    def of_clips(self) -> list[Metric]:
        return [metric for metric in self.metrics if isinstance(metric, Metric)]

    def of_sets(self) -> list[SetMetric]:
        return [metric for metric in self.metrics if isinstance(metric, SetMetric)]


def values(clips: Iterable[ClipResult], key: str) -> list[float]:
    """The numbers that there are."""
    return [found for clip in clips if isinstance(found := clip.outcomes.get(key), float)]


def summary(row: Row, results: Results, clips: Sequence[ClipResult] | None = None) -> dict[str, Interval]:
    """Of every metric with a number in `clips` (all of the row): mean and interval. Set metrics have no interval."""
    chosen = row.clips if clips is None else clips
    found = {}
    for metric in results.of_clips():
        numbers = values(chosen, metric.key)
        if numbers:
            found[metric.key] = interval(numbers, resamples=results.settings.get("resamples", 2000))
    if clips is None:
        for metric in results.of_sets():
            value = row.together.get(metric.key)
            if isinstance(value, float):
                found[metric.key] = Interval(value, math.nan, math.nan, len(row.clips))
    return found


def groups(row: Row) -> dict[str, tuple[ClipResult, ...]]:
    """Clips by language and by difficulty, where there is more than one: "language fr" -> clips."""
    found: dict[str, list[ClipResult]] = {}
    for label in ("language", "difficulty"):
        names = sorted({getattr(clip, label) for clip in row.clips} - {""})
        for name in names if len(names) > 1 else ():
            found[f"{label} {name}"] = [clip for clip in row.clips if getattr(clip, label) == name]
    return {name: tuple(clips) for name, clips in found.items()}


def plain(results: Results) -> dict[str, Any]:
    """For JSON: a number, or {"reason", "remedy"}."""
    return {
        "format": FORMAT,
        "name": results.settings.get("name", ""),
        "metrics": {
            metric.key: {
                "name": metric.name, "unit": metric.unit, "better": metric.better.value, "needs": metric.needs,
                "definition": metric.definition, "over": "clip" if isinstance(metric, Metric) else "set",
            }
            for metric in results.metrics
        },
        "rows": [
            {
                "name": row.name,
                "summary": {
                    key: {"mean": one.mean, "low": _finite(one.low), "high": _finite(one.high), "clips": one.count}
                    for key, one in summary(row, results).items()
                },
                "together": {key: _plain(outcome) for key, outcome in row.together.items()},
                "clips": [_clip(clip) for clip in row.clips],
            }
            for row in results.rows
        ],
        "faults": list(results.faults),
        "settings": results.settings,
        "versions": results.versions,
        "seconds": round(results.seconds, 1),
    }  # fmt: skip


def _clip(clip: ClipResult) -> dict[str, Any]:
    labels = {key: getattr(clip, key) for key in ("text", "language", "difficulty", "fault") if getattr(clip, key)}
    return {
        "name": clip.name, **labels, "notes": list(clip.notes), "digests": clip.digests,
        "metrics": {key: _plain(outcome) for key, outcome in clip.outcomes.items()},
    }  # fmt: skip


def _plain(outcome: Outcome) -> float | dict[str, str]:
    return {"reason": outcome.reason, "remedy": outcome.remedy} if isinstance(outcome, NotComputed) else outcome


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read(path: Path) -> dict[str, Any]:
    """A results.json; raises BadInputError where it is none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if tree["format"] != FORMAT or not tree["rows"]:
            raise ValueError
        return tree
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: no such file") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{path} is no results.json of this program's format {FORMAT}") from error


def write(results: Results, folder: Path) -> list[Path]:
    """results.json, clips.csv and summary.csv, each whole or not at all."""
    tree = json.dumps(plain(results), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    contents = {"results.json": tree, "clips.csv": _clips_csv(results), "summary.csv": _summary_csv(results)}
    return [write_text(folder / name, content) for name, content in contents.items()]


def write_text(path: Path, content: str) -> Path:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
    return path


def _clips_csv(results: Results) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    keys = [metric.key for metric in results.of_clips()]
    table.writerow(["row", "name", "language", "difficulty", "fault", *keys])
    for row in results.rows:
        for clip in row.clips:
            numbers = [found if isinstance(found := clip.outcomes.get(key), float) else "" for key in keys]
            table.writerow([row.name, clip.name, clip.language, clip.difficulty, clip.fault, *numbers])
    return out.getvalue()


def _summary_csv(results: Results) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["row", "group", "metric", "mean", "low", "high", "clips"])
    for row in results.rows:
        for group, clips in ({"all": None} | groups(row)).items():
            for key, one in summary(row, results, clips).items():
                ends = ["" if math.isnan(end) else end for end in (one.low, one.high)]
                table.writerow([row.name, group, key, one.mean, *ends, one.count])
    return out.getvalue()
