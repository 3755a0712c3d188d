"""What a metric is: a definition that a reader can check, and a function of one clip or of all of them.

    psnr = Metric("psnr", "PSNR outside the face", "dB", Better.HIGHER, needs="a face mask", compute=function)
    psnr.measure(sample)  # 31.4, or NotComputed("no face mask", remedy="--masks DIR")

A metric never invents a number: what cannot be measured is a `NotComputed` that says why, and what would help.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from justdub.errors import JustDubError

if TYPE_CHECKING:
    from justdub.evaluation.sample import Sample


class Better(Enum):
    """Which way is good. ZERO: the nearer to nought. EVEN: neither, the value describes."""

    HIGHER = "higher"
    LOWER = "lower"
    ZERO = "zero"
    EVEN = "even"

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "zero": "→0", "even": ""}[self.value]

    def badness(self, value: float) -> float:
        """Larger is worse; 0 for all where neither way is good."""
        return {"higher": -value, "lower": value, "zero": abs(value), "even": 0.0}[self.value]


@dataclass(frozen=True)
class NotComputed:
    """Why there is no number, and the one line that would bring it (empty where nothing would)."""

    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.reason}; try: {self.remedy}" if self.remedy else self.reason


Outcome = float | NotComputed


@dataclass(frozen=True)
class Metric:
    """One number of one clip.

    Attributes:
        key: name in files. name: title in tables. unit: "" for a plain number. better: which way is good.
        needs: what must be there beside the two clips, "" for nothing.
        definition: one sentence with its source.
        compute: the value; raises `JustDubError` or returns `NotComputed` where there is none.
    """

    key: str
    name: str
    unit: str
    better: Better
    needs: str
    definition: str
    compute: Callable[[Sample], Outcome]

    def measure(self, sample: Sample) -> Outcome:
        """The value, finite, or why there is none. Whatever goes wrong with one clip stays with that clip."""
        return _guarded(self.compute, sample)


@dataclass(frozen=True)
class SetMetric:
    """One number of all clips together; attributes as in `Metric`."""

    key: str
    name: str
    unit: str
    better: Better
    needs: str
    definition: str
    compute: Callable[[Sequence[Sample]], Outcome]

    def measure(self, samples: Sequence[Sample]) -> Outcome:
        """As `Metric.measure`, of all clips."""
        return _guarded(self.compute, samples)


def _guarded(compute: Callable, subject) -> Outcome:
    try:
        value = compute(subject)
    except JustDubError as error:
        reason = f"{error.found}; expected {error.expected}" if error.expected else error.found
        return NotComputed(" ".join(reason.split()), " ".join(error.remedy.split()))
    except Exception as error:  # one clip must not end a run of hours: the line names the bug
        return NotComputed(f"a bug: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".strip())
    if isinstance(value, NotComputed):
        return value
    value = float(value)
    return value if math.isfinite(value) else NotComputed(f"the result is {value}")
