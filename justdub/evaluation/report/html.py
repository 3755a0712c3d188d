"""Small parts of pages: tables, names and numbers as HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from justdub.evaluation import table
from justdub.evaluation.metric import Metric, SetMetric
from justdub.evaluation.statistics import Interval


def rows(head: Sequence[str], body: Sequence[Sequence[str] | str], kind: str = "") -> str:
    """A table of cells that are HTML already; a string among the rows is a heading over the next ones."""
    lines = [
        f'<tr class="family"><th colspan="{len(head)}">{line}</th></tr>'
        if isinstance(line, str)
        else "<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>"
        for line in body
    ]
    top = "".join(f"<th>{cell}</th>" for cell in head)
    name = f' class="{kind}"' if kind else ""
    return (
        f'<div class="scroll"><table{name}><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def name_of(metric: Metric | SetMetric) -> str:
    """Name, unit and which way is good; the definition where the pointer rests."""
    return f'<span title="{escape(metric.definition)}">{escape(table.title(metric))}</span>'


def unit_of(metric: Metric | SetMetric) -> str:
    return f" {escape(metric.unit)}" if metric.unit else ""


def cell(found: Interval | None, clips: int) -> str:
    """Mean, interval (where it has a width), and of how many clips if not of all."""
    if found is None:
        return ""
    text = table.number(found.mean)
    small = []
    ends = [table.number(end) for end in (found.low, found.high)]
    if not math.isnan(found.low) and {*ends} != {text}:
        small.append(f"[{', '.join(ends)}]")
    if found.count < clips:
        small.append(f"of {found.count}")
    return f"{text}<small>{' '.join(small)}</small>" if small else text
