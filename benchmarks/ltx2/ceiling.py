"""Part `ceiling`: what the device itself reaches on a large matrix product and on a large copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.ltx2.clock import Way
from benchmarks.ltx2.report import COPY, Row
from benchmarks.ltx2.run import Run
from benchmarks.ltx2.work import Work

PART = "ceiling"


def rows(run: Run) -> Iterator[Row]:
    for dtype in (torch.bfloat16, torch.float32):
        name = f"matmul {'bf16' if dtype == torch.bfloat16 else 'fp32'}"
        yield from run.guarded(PART, name, partial(_matmul, run, name, dtype))
    yield from run.guarded(PART, COPY, partial(_copy, run))


def _matmul(run: Run, name: str, dtype: torch.dtype) -> Iterator[Row]:
    """float32 may use TF32, as convolutions do unless they are told not to: it is the codecs' ceiling."""
    side = run.scale.matmul
    a, b = torch.randn(2, side, side, device=run.device, dtype=dtype)
    out = torch.empty_like(a)
    work = Work(2 * side**3, 3 * a.nbytes)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield from run.measure(PART, _ten(name, partial(torch.mm, a, b, out=out), work))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _copy(run: Run) -> Iterator[Row]:
    source = torch.randint(256, (run.scale.copy_bytes,), device=run.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    yield from run.measure(PART, _ten(COPY, lambda: target.copy_(source), Work(0, 2 * source.nbytes)))


def _ten(name: str, call: Callable[[], object], work: Work) -> Way:
    """Ten in a row: one is as short as the gap before it."""

    def ten() -> None:
        for _ in range(10):
            call()

    return Way(name, ten, work * 10)
