"""How much an adapter changes, per stream and family of modules, and how two adapters' changes compare."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from justdub.lora.config import GROUPS, family, group
from justdub.lora.factors import Factors, inner, norm
from justdub.lora.weights import TransformerWeights

OUTSIDE = "outside the blocks"


@dataclass(frozen=True)
class Change:
    """What an adapter does to the modules of one kind.

    Attributes:
        group: `video`, `audio` or `cross`.
        family: of the modules (`config.family`).
        modules, parameters: how many.
        median, largest: Frobenius norm of B A; relative to that of W where the base's weights were given.
        zero: modules that do not change at all.
    """

    group: str
    family: str
    modules: int
    parameters: int
    median: float
    largest: float
    zero: int


@dataclass(frozen=True)
class Comparison:
    """Changes A and B to the modules of one kind, taken together as one long vector each.

    Attributes:
        modules: that both have; only_a, only_b: that one has.
        cosine: of the angle between the changes, modules that one lacks counted as zero; nan if either is zero.
        ratio: norm of B over norm of A; distance: norm of A - B over norm of A (both inf or nan where A is zero).
    """

    group: str
    family: str
    modules: int
    only_a: int
    only_b: int
    cosine: float
    ratio: float
    distance: float


def measure(modules: Mapping[str, Factors], base: TransformerWeights | None = None) -> list[Change]:
    """One row per stream and family, in a fixed order."""
    rows = []
    for (stream, kind), names in _kinds(modules):
        norms = [norm(modules[name]) for name in names]
        if base is not None:
            weights = [base.weight(name).float().norm().item() for name in names]
            norms = [_ratio(change, weight) for change, weight in zip(norms, weights, strict=True)]
        parameters = sum(modules[name].down_rI.numel() + modules[name].up_Or.numel() for name in names)
        zero = sum(value == 0 for value in norms)
        rows.append(Change(stream, kind, len(names), parameters, statistics.median(norms), max(norms), zero))
    return rows


def compare(a: Mapping[str, Factors], b: Mapping[str, Factors]) -> list[Comparison]:
    """One row per stream and family that either changes, and one over all (group and family ``all``)."""
    rows = [_compare(a, b, stream, kind, names) for (stream, kind), names in _kinds({**a, **b})]
    return [*rows, _compare(a, b, "all", "all", sorted({**a, **b}))]


def _compare(
    a: Mapping[str, Factors], b: Mapping[str, Factors], stream: str, kind: str, names: list[str]
) -> Comparison:
    both = [name for name in names if name in a and name in b]
    square_a = sum(inner(a[name], a[name]) for name in names if name in a)
    square_b = sum(inner(b[name], b[name]) for name in names if name in b)
    product = sum(inner(a[name], b[name]) for name in both)
    size_a, size_b = math.sqrt(max(square_a, 0.0)), math.sqrt(max(square_b, 0.0))
    distance = math.sqrt(max(square_a + square_b - 2 * product, 0.0))
    return Comparison(
        group=stream,
        family=kind,
        modules=len(both),
        only_a=sum(name in a and name not in b for name in names),
        only_b=sum(name in b and name not in a for name in names),
        cosine=product / (size_a * size_b) if size_a and size_b else math.nan,
        ratio=_ratio(size_b, size_a),
        distance=_ratio(distance, size_a),
    )


def _ratio(value: float, base: float) -> float:
    if base:
        return value / base
    return math.inf if value else math.nan


def _kinds(modules: Mapping[str, Factors]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(modules):
        kind = family(name) if name.startswith("transformer_blocks.") else OUTSIDE
        found.setdefault((group(name), kind), []).append(name)
    yield from sorted(found.items(), key=lambda item: (GROUPS.index(item[0][0]), item[0][1]))
