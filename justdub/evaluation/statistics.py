"""How sure a mean over clips is, and whether two systems differ: resampling of clips, never of frames.

Legend: N clips, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
_EXACT = 12  # clips up to which every sign pattern is counted


@dataclass(frozen=True)
class Interval:
    """mean: of the clips. low, high: ends of the interval; NaN for a single clip. count: clips."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Difference:
    """Second system minus first, on the clips that both have.

    Attributes:
        mean, low, high: with its interval. p: two-sided, of the paired sign-flip test. adjusted: after Holm's
            correction over all metrics compared. count: clips.
    """

    mean: float
    low: float
    high: float
    p: float
    count: int
    adjusted: float = float("nan")


def interval(values: Sequence[float], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean and its bootstrap interval (Efron 1987: bias-corrected and accelerated).

    Values that are all equal give an interval of no width; a single one gives NaN ends.
    """
    values_N = np.asarray(values, np.float64)
    if len(values_N) == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(values_N.mean())
    if len(values_N) == 1:
        return Interval(mean, float("nan"), float("nan"), 1)
    if np.ptp(values_N) == 0:
        return Interval(mean, mean, mean, len(values_N))
    from scipy.stats import bootstrap

    found = bootstrap(
        (values_N,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(values_N))


def difference(
    one: Sequence[float], other: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """`other` minus `one`, clip by clip.

    The test (Fisher 1935): under "no difference" each clip's difference could have had the other sign. All sign
    patterns are counted for up to 12 clips, 10 000 random ones for more.
    """
    change_N = np.asarray(other, np.float64) - np.asarray(one, np.float64)
    spread = interval(change_N, resamples=resamples, seed=seed)
    if not np.any(change_N):
        return Difference(spread.mean, spread.low, spread.high, 1.0, len(change_N))
    signs_RN = _signs(len(change_N), seed)
    sums_R = np.abs(signs_RN @ change_N)
    as_large = (sums_R >= abs(change_N.sum()) * (1 - 1e-12)).sum()
    exact = len(change_N) <= _EXACT
    p = as_large / len(signs_RN) if exact else (as_large + 1) / (len(signs_RN) + 1)
    return Difference(spread.mean, spread.low, spread.high, float(p), len(change_N))


def _signs(count: int, seed: int) -> np.ndarray:
    if count <= _EXACT:
        return 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    return np.random.default_rng(seed).choice([-1.0, 1.0], (10_000, count))


def holm(p: Sequence[float]) -> list[float]:
    """Holm 1979: p-values of several tests, so that any false alarm among them stays below the level."""
    order = np.argsort(p)
    adjusted, largest = np.empty(len(p)), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, p[place] * (len(p) - rank)))
        adjusted[place] = largest
    return adjusted.tolist()
