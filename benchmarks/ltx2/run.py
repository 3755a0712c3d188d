"""One run of the benchmark: what was chosen on the command line, and how its parts are kept apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from benchmarks.ltx2.clock import Clock, Way, measure, said, short
from benchmarks.ltx2.report import Row
from benchmarks.ltx2.scale import Resolution, Scale

SPENT = "not started: the budget is spent"


@dataclass(frozen=True)
class Run:
    """Attributes:
    dtypes: of the transformer's weights, `bf16` or `fp8`. modes: `eager`, `compiled`.
    ways: of a step (`step.WAYS`).
    deadline: of `time.monotonic`, after which nothing new is begun.
    compiler: backend of torch.compile.
    """

    scale: Scale
    resolution: Resolution
    train_resolution: Resolution
    rank: int
    dtypes: tuple[str, ...]
    modes: tuple[str, ...]
    ways: tuple[str, ...]
    repeats: int
    device: torch.device
    deadline: float
    compiler: str

    @cached_property
    def clock(self) -> Clock:
        return Clock(self.device)

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def measure(self, part: str, *ways: Way, dtype: str = "", mode: str = "") -> list[Row]:
        return measure(part, ways, self.repeats, self.clock, self.deadline, dtype=dtype, mode=mode)

    def guarded(
        self, part: str, name: str, rows: Callable[[], Iterator[Row]], *, dtype: str = "", mode: str = ""
    ) -> Iterator[Row]:
        """The rows of `rows()`; a failure becomes a row, and what it held is given back."""
        if self.late:
            yield Row(part, name, dtype, mode, failed=SPENT)
            return
        failed = ""
        try:
            with said(f"{part}: {' '.join(filter(None, (name, dtype, mode)))}"):
                yield from rows()
        except Exception as error:
            failed = short(error)
        self.clock.free()
        if failed:
            yield Row(part, name, dtype, mode, failed=failed)
