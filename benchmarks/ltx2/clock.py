"""Times of several ways to do one thing, taken in turn so that a slow moment of the device hits all of them."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from benchmarks.ltx2.report import Row
from benchmarks.ltx2.work import Work

NOTHING = Work()
WARM_UPS = 2
LEAST_ROUNDS = 3  # are run even when the budget is spent in the middle


@dataclass(frozen=True)
class Way:
    """Attributes:
    prepare: before every call, not timed. call: what is timed.
    idle_bytes: of device memory that is kept for other ways meanwhile.
    """

    name: str
    call: Callable[[], object]
    work: Work = NOTHING
    prepare: Callable[[], object] = lambda: None
    idle_bytes: int = 0
    estimate_bytes: int | None = None
    note: str = ""


@dataclass
class Samples:
    times_ms: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    failed: str = ""


class Clock:
    """Milliseconds between two events of the device; on a CPU, of wall time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def once(self, call: Callable[[], object]) -> tuple[float, int | None]:
        """Milliseconds and peak memory of one call."""
        if not self.on_gpu:
            begin = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - begin), None
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize(self.device)
        return begin.elapsed_time(end), torch.cuda.max_memory_allocated(self.device)

    def free(self) -> None:
        """Give back what nothing refers to."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()


def in_turn(ways: Sequence[Way], repeats: int, clock: Clock, deadline: float) -> dict[str, Samples]:
    """Warm every way up, then time all of them round after round. One that fails is left out from then on."""
    samples = {way.name: Samples() for way in ways}
    for turn in range(WARM_UPS + repeats):
        if turn >= WARM_UPS + LEAST_ROUNDS and time.monotonic() > deadline:
            break
        for way in ways:
            mine = samples[way.name]
            if mine.failed:
                continue
            try:
                way.prepare()
                elapsed_ms, peak_bytes = clock.once(way.call)
            except Exception as error:
                mine.failed = short(error)
            else:
                if turn >= WARM_UPS:  # the first calls load, choose and compile kernels
                    mine.times_ms.append(elapsed_ms)
                    mine.peak_bytes = peak_bytes and max(mine.peak_bytes or 0, peak_bytes - way.idle_bytes)
            if mine.failed:  # outside of the handler, whose frames hold the tensors
                clock.free()
    return samples


def measure(
    part: str, ways: Sequence[Way], repeats: int, clock: Clock, deadline: float, *, dtype: str = "", mode: str = ""
) -> list[Row]:
    """The rows of ways taken in turn; ratios are to the first."""
    samples = in_turn(ways, repeats, clock, deadline)
    first = samples[ways[0].name]
    rows = []
    for way in ways:
        mine = samples[way.name]
        shared = {"part": part, "name": way.name, "dtype": dtype, "mode": mode, "flops": way.work.flops}
        if mine.failed or not mine.times_ms:
            rows.append(Row(**shared, failed=mine.failed or "no round was run"))
            continue
        times = sorted(mine.times_ms)
        low, median, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        ratio = None
        if not first.failed and len(ways) > 1:
            ratio = statistics.median(a / b for a, b in zip(mine.times_ms, first.times_ms, strict=False))
        rows.append(
            Row(
                **shared,
                median_ms=median,
                low_ms=low,
                high_ms=high,
                repeats=len(times),
                ratio=ratio,
                bytes=way.work.bytes,
                peak_bytes=mine.peak_bytes,
                estimate_bytes=way.estimate_bytes,
                note=way.note,
            )
        )
    return rows


@contextmanager
def said(what: str) -> Iterator[None]:
    """Progress, on stderr: the table is the output."""
    print(f"... {what}", file=sys.stderr, flush=True)
    begin = time.monotonic()
    yield
    print(f"    {what}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)


def short(error: BaseException) -> str:
    """One line of an error."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"
