"""Two systems on the same clips: paired differences, tested, with the false alarms of many metrics accounted for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better
from justdub.evaluation.results import read
from justdub.evaluation.statistics import Difference, difference, holm
from justdub.evaluation.table import number


@dataclass(frozen=True)
class Comparison:
    """Of one metric.

    Attributes:
        key, name, unit, better: as in `Metric`. first, second: means over the clips that both have.
        change: second minus first. verdict: "second", "first" or "" where the adjusted p is 0.05 or more.
    """

    key: str
    name: str
    unit: str
    better: Better
    first: float
    second: float
    change: Difference
    verdict: str = ""


def compare(first: Path, second: Path, *, level: float = 0.05) -> tuple[tuple[str, str], list[Comparison], list[str]]:
    """((name, name), comparisons, notes) of two results.json.

    Raises:
        BadInputError: no results of this format, or no clip in both.
    """
    trees = [read(path) for path in (first, second)]
    rows = [_clips(tree) for tree in trees]
    shared = sorted(rows[0].keys() & rows[1].keys())
    if not shared:
        raise BadInputError(f"{first} and {second} share no clip", expected="two systems on the same sources")
    notes = _notes(trees, rows, shared)
    found = []
    for key, metric in trees[0]["metrics"].items():
        pairs = [(rows[0][name]["metrics"].get(key), rows[1][name]["metrics"].get(key)) for name in shared]
        pairs = [pair for pair in pairs if all(isinstance(value, int | float) for value in pair)]
        if len(pairs) >= 2:
            one, other = zip(*pairs, strict=True)
            change = difference(one, other, seed=trees[0]["settings"].get("seed", 0))
            means = (sum(one) / len(one), sum(other) / len(other))
            found.append(Comparison(key, metric["name"], metric["unit"], Better(metric["better"]), *means, change))
    adjusted = holm([one.change.p for one in found])
    names = tuple(tree["rows"][0]["name"] for tree in trees)
    if names[0] == names[1]:
        names = (f"{names[0]} (first)", f"{names[1]} (second)")
    return names, [_judged(one, p, level) for one, p in zip(found, adjusted, strict=True)], notes


def _clips(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {clip["name"]: clip for clip in tree["rows"][0]["clips"]}


def _notes(trees: list[dict], rows: list[dict], shared: list[str]) -> list[str]:
    notes = [f"{len(shared)} clips are in both, {len(rows[0])} in the first, {len(rows[1])} in the second"]
    other = [name for name in shared if rows[0][name]["digests"]["source"] != rows[1][name]["digests"]["source"]]
    if other:
        notes.append(f"the sources of {len(other)} clips are not the same files: {', '.join(other[:3])}")
    changed = [
        key
        for key in ("longest", "weights", "truth", "masks")
        if trees[0]["settings"].get(key) != trees[1]["settings"].get(key)
    ]
    if changed:
        notes.append(f"the runs differ in {', '.join(changed)}: such numbers do not compare")
    return notes


def _judged(one: Comparison, adjusted: float, level: float) -> Comparison:
    verdict = ""
    gain = one.better.badness(one.first) - one.better.badness(one.second)
    if adjusted < level and gain:
        verdict = "second" if gain > 0 else "first"
    return replace(one, change=replace(one.change, adjusted=adjusted), verdict=verdict)


def text(names: tuple[str, str], found: list[Comparison], notes: list[str]) -> str:
    """Markdown."""
    lines = [
        f"| metric | {names[0]} | {names[1]} | difference, 95 % | p | p, Holm | better |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        unit = f" ({one.unit})" if one.unit else ""
        ends = f"{number(one.change.mean)} [{number(one.change.low)}, {number(one.change.high)}]"
        winner = {"first": names[0], "second": names[1], "": ""}[one.verdict]
        lines.append(
            f"| {one.name}{unit} {one.better.arrow} | {number(one.first)} | {number(one.second)} | {ends} "
            f"| {one.change.p:.3g} | {one.change.adjusted:.3g} | {winner} |"
        )
    return "\n".join([*lines, "", *notes]) + "\n"
