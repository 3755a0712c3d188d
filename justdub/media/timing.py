"""Frame rates from timestamps: is the rate constant, and which exact fraction is it?"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median

STANDARD_RATES = tuple(
    Fraction(*rate)
    for rate in (
        (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1),
        (12, 1), (25, 2), (15, 1), (15000, 1001), (10, 1), (8, 1), (5, 1), (48, 1), (48000, 1001), (100, 1),
        (120000, 1001), (120, 1), (240, 1),
    )
)  # fmt: skip
GRID_LIMIT = 60  # a clip is not made faster than this to keep its instants


def fits(times: Sequence[int], time_base: Fraction, rate: Fraction) -> bool:
    """True if sorted `times` (in ticks of `time_base`) are one frame of `rate` apart, rounded to the clock.

    Containers round every timestamp to their tick (Matroska: 1 ms), so each may be off by one tick but never drifts.
    """
    tick = max(time_base, Fraction(1, 1000)) * Fraction(101, 100)
    step = 1 / rate
    first = times[0]
    # floats keep this fast for a whole film; 1e-9 s is far below any tick
    base, width, slack = float(time_base), float(step), float(tick) + 1e-9
    return all(abs((time - first) * base - number * width) <= slack for number, time in enumerate(times))


def constant_rate(times: Sequence[int], time_base: Fraction, declared: Sequence[Fraction | None]) -> Fraction | None:
    """The exact constant rate of sorted timestamps, or None if the rate varies.

    Args:
        times: presentation times in ticks, at least two.
        declared: rates that the container claims, most trusted first. They break ties that a short clip leaves open
            (one second cannot tell 30 from 29.97 in a millisecond clock).
    """
    measured = Fraction(len(times) - 1) / ((times[-1] - times[0]) * time_base)
    candidates = [*(rate for rate in declared if rate), *_nearest(measured), measured.limit_denominator(1001)]
    return next((snap(rate) for rate in candidates if rate > 0 and fits(times, time_base, snap(rate))), None)


def nominal_rate(times: Sequence[int], time_base: Fraction) -> Fraction:
    """The constant rate that a variable-rate clip is resampled to.

    A clip from which frames were dropped still sits on a grid: then it is the slowest standard rate that holds every
    frame at its own instant, at most `GRID_LIMIT`. Otherwise it is the rate of the median step, snapped to a standard
    rate within 2 %.
    """
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    rate = 1 / (Fraction(median(steps)) * time_base)
    grid = next(
        (grid for grid in sorted(STANDARD_RATES) if rate <= grid * 2 and _on_grid(times, time_base, grid)), None
    )
    if grid is not None and grid <= GRID_LIMIT:
        return grid
    nearest = _nearest(rate)[0]
    if abs(nearest / rate - 1) <= Fraction(2, 100):
        return nearest
    return rate.limit_denominator(1001)


def _on_grid(times: Sequence[int], time_base: Fraction, rate: Fraction) -> bool:
    """True if every time is a whole number of frames after the first one, rounded to the container's clock."""
    slack = float(max(time_base, Fraction(1, 1000))) + 1e-9
    base, step, first, last = float(time_base), float(1 / rate), times[0], -1
    for time in times:
        elapsed = (time - first) * base
        slot = round(elapsed / step)
        if abs(elapsed - slot * step) > slack or slot == last:
            return False
        last = slot
    return True


def snap(rate: Fraction) -> Fraction:
    """The standard rate within 1e-5 of `rate` (23.976 written as 2997/125 is 24000/1001), else `rate` itself."""
    rate = Fraction(rate)
    nearest = _nearest(rate)[0]
    return nearest if abs(nearest / rate - 1) < Fraction(1, 100_000) else rate


def _nearest(rate: Fraction) -> list[Fraction]:
    return sorted(STANDARD_RATES, key=lambda standard: abs(standard / rate - 1))[:2]
