"""Results as text: one line per metric, one column per row of the run, and what could not be computed."""

from __future__ import annotations

import math

from justdub.evaluation.metric import Metric, SetMetric
from justdub.evaluation.results import Results, Row, missing, summary
from justdub.evaluation.statistics import Interval


def number(value: float) -> str:
    """Three digits that count, at most three after the point."""
    if not math.isfinite(value):
        return "-"
    size = abs(value)
    return f"{value:.{0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3}f}"


def cell(found: Interval | None) -> str:
    """Mean and interval; "" where nothing was computed."""
    if found is None:
        return ""
    if math.isnan(found.low):
        return number(found.mean)
    return f"{number(found.mean)} [{number(found.low)}, {number(found.high)}]"


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
        cells = [cell(row.get(metric.key)) for row in found.values()]
        lines.append(f"| {title(metric)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"fault: {line}" for line in faults(results))]
    lines += [f"not computed: {names}: {why}" for names, why in not_computed(results.system, results)]
    return "\n".join(lines).rstrip() + "\n"


def faults(results: Results) -> list[str]:
    """Every fault once: of the folders, then of the clips."""
    return [*results.faults, *(clip.fault for clip in results.system.clips if clip.fault)]


def not_computed(row: Row, results: Results) -> list[tuple[str, str]]:
    """(names of metrics, why): metrics without a single number, those with one reason together."""
    names = {metric.key: metric.name for metric in results.metrics}
    together: dict[str, list[str]] = {}
    for key, reasons in missing(row, results).items():
        together.setdefault(str(reasons[0][0]), []).append(names[key])
    return [(", ".join(found), why) for why, found in together.items()]
