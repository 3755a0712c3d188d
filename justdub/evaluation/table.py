"""Results as text: one line per metric, one column per row of the run, and what could not be computed."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass

from justdub.evaluation.metric import Metric, NotComputed, SetMetric
from justdub.evaluation.results import Results, Row, summary
from justdub.evaluation.statistics import Interval

_FILE = re.compile(r"^\S*\.(mp4|mov|mkv|webm|avi|ts|m4v):? ")  # the clip that a reason begins with


@dataclass(frozen=True)
class Gap:
    """Metrics (names) that were not computed, for one reason. share: " (2 of 12 clips)", or "" where it was all."""

    names: tuple[str, ...]
    reason: str
    remedy: str
    share: str = ""

    def __str__(self) -> str:
        return f"{'; '.join(self.names)}: {NotComputed(self.reason + self.share, self.remedy)}"


def number(value: float) -> str:
    """Three digits that count, at most three after the point."""
    if not math.isfinite(value):
        return "-"
    digits = next((d for d, size in enumerate((1000, 100, 10)) if round(abs(value), d) >= size), 3)
    return f"{value:.{digits}f}"


def cell(found: Interval | None, clips: int = 0) -> str:
    """Mean and interval; of how many, where that is fewer than `clips`; "" where nothing was computed."""
    if found is None:
        return ""
    share = f" of {found.count}" if found.count < clips else ""
    if math.isnan(found.low):
        return number(found.mean) + share
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]{share}"


def title(metric: Metric | SetMetric) -> str:
    """Name, unit and which way is good."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.name}{unit} {metric.better.arrow}".strip()


def text(results: Results) -> str:
    """Markdown: the table, the faults, and what was not computed with the line that would enable it."""
    found = {row.name: summary(row, results) for row in results.rows}
    shown = [metric for metric in results.metrics if any(metric.key in row for row in found.values())]
    lines = [f"| {len(results.system.clips)} clips | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for metric in shown:
        cells = [cell(found[row.name].get(metric.key), len(row.clips)) for row in results.rows]
        lines.append(f"| {title(metric)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"fault: {line}" for line in faults(results))]
    lines += [f"not computed: {one}" for one in not_computed(results.system, results)]
    return "\n".join(lines).rstrip() + "\n"


def faults(results: Results) -> list[str]:
    """Every fault once: of the folders, then of the clips."""
    return [*results.faults, *(clip.fault for clip in results.system.clips if clip.fault)]


def not_computed(row: Row, results: Results) -> list[Gap]:
    """What is missing, metrics with one reason together; first what is missing of all clips, then of some.

    Clips without a dub, which are told as faults, are left out unless there are no others.
    """
    clips = [clip for clip in row.clips if clip.digests.get("dub", "unknown")] or row.clips
    found: dict[tuple[str, str, str], list[str]] = {}
    for metric in results.of_clips():
        outcomes = [clip.outcomes.get(metric.key) for clip in clips]
        gaps = Counter((_FILE.sub("", one.reason), one.remedy) for one in outcomes if isinstance(one, NotComputed))
        if gaps:
            (reason, remedy), _ = gaps.most_common(1)[0]
            reason += ", or the like" if len(gaps) > 1 else ""
            share = "" if gaps.total() == len(clips) else f" ({gaps.total()} of {len(clips)} clips)"
            found.setdefault((reason, remedy, share), []).append(metric.name)
    for metric in results.of_sets():
        if isinstance(gap := row.together.get(metric.key), NotComputed):
            found.setdefault((gap.reason, gap.remedy, ""), []).append(metric.name)
    gaps = [Gap(tuple(names), *why) for why, names in found.items()]
    return sorted(gaps, key=lambda gap: bool(gap.share))
