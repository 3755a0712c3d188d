"""Part `step`: one denoising step with a reference, in each of the ways to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks.ltx2 import clip, estimate, models, processors
from benchmarks.ltx2.clock import Way, short
from benchmarks.ltx2.processors import Processors
from benchmarks.ltx2.report import Row
from benchmarks.ltx2.run import SPENT, Run
from benchmarks.ltx2.work import Mode, TransformerWork
from justdub.sequence import Layout, SequenceRules, StreamLayout

PART = "step"
GRAPHS = 64  # a graph per way, and none of them dropped for another
# What --ways calls them; the first is there always, since ratios are to it.
WAYS = {
    "masked": "masked",
    "sliced": "sliced",
    "isolated": "isolated",
    "cached": "isolated + cached",
    "prefill": "prefill, once a clip",
    "stock": "stock, no reference",
}
AGREE = {"sliced": "masked", "isolated + cached": "isolated"}
ESTIMATED = ("sliced", "isolated", "isolated + cached")


def rows(run: Run) -> Iterator[Row]:
    for dtype in run.dtypes:
        yield from run.guarded(PART, "all ways", partial(_precision, run, dtype), dtype=dtype)


def _precision(run: Run, dtype: str) -> Iterator[Row]:
    with torch.no_grad():
        module = models.transformer(run.scale, run.device)
        if dtype == "fp8":
            models.store_in_fp8(module)
        ways = _ways(run, module, dtype)
        for mode in run.modes:
            if run.late:
                yield Row(PART, "all ways", dtype, mode, failed=SPENT)
                continue
            if mode == "compiled":
                _compile(run, module)
            yield from run.measure(PART, *_compared(ways), dtype=dtype, mode=mode)
    torch._dynamo.reset()


def _compile(run: Run, module: Any) -> None:
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = GRAPHS
    module.compile_repeated_blocks(backend=run.compiler, fullgraph=True, dynamic=False)


def _ways(run: Run, module: Any, dtype: str) -> list[Way]:
    device, text = run.device, clip.prompt(run.scale, run.device)
    mine, in_mine = processors.ours(module)
    joint_plan, isolated_plan = (
        clip.plan(mine.geometry, run.resolution, device, SequenceRules(reference=mode))
        for mode in ("bidirectional", "isolated")
    )
    layout = joint_plan.layout
    without = Layout(StreamLayout(0, layout.video.target), StreamLayout(0, layout.audio.target))
    joint, isolated = clip.noisy(joint_plan), clip.noisy(isolated_plan)
    bare, alone = clip.noisy(isolated_plan.without_reference()), isolated_plan.reference_only()
    cache = mine.prefill(alone, text)
    masked, in_masked = processors.stock(module, layout, device)
    plain, in_plain = processors.stock(module, None, device)

    def way(name: str, mode: Mode, of: Layout, place: Processors, call: Callable[[], object]) -> Way:
        work = TransformerWork(module.config, of, run.scale.text_tokens, mode, models.weight_bytes(dtype)).forward()
        return Way(name, call, work, place.install, 0 if mode == "cached" else cache.nbytes)

    ways = [
        way(WAYS["masked"], "masked", layout, in_masked, lambda: masked.velocity(joint, text)),
        way(WAYS["sliced"], "sliced", layout, in_mine, lambda: mine.velocity(joint, text)),
        way(WAYS["isolated"], "isolated", layout, in_mine, lambda: mine.velocity(isolated, text)),
        way(WAYS["cached"], "cached", layout, in_mine, lambda: mine.velocity(bare, text, cache=cache)),
        way(WAYS["prefill"], "prefill", layout, in_mine, lambda: mine.prefill(alone, text)),
        way(WAYS["stock"], "masked", without, in_plain, lambda: plain.velocity(bare, text)),
    ]
    estimates = estimate.StepEstimates(run, module)
    chosen = [WAYS[name] for name in WAYS if name in run.ways or name == "masked"]
    return [_foretold(estimates, one) if one.name in ESTIMATED else one for one in ways if one.name in chosen]


def _foretold(estimates: estimate.StepEstimates, way: Way) -> Way:
    """The same way with what the program thinks it needs."""
    rules = SequenceRules(reference="bidirectional" if way.name == "sliced" else "isolated")
    try:
        return replace(way, estimate_bytes=estimates.bytes(rules, cached=way.name == "isolated + cached"))
    except Exception as error:
        return replace(way, note=f"no estimate: {short(error)}")


def _compared(ways: list[Way]) -> list[Way]:
    """The same ways; those that must agree with another one say how far they are from it."""
    by_name = {way.name: way for way in ways}
    for name, other in AGREE.items():
        if name not in by_name or other not in by_name:
            continue
        way = by_name[name]
        by_name[name] = replace(way, note="; ".join(filter(None, (way.note, _difference(way, by_name[other])))))
    return list(by_name.values())


def _difference(way: Way, other: Way) -> str:
    """Relative difference of the target's velocities, in the norm."""
    try:
        found = []
        for one in (way, other):
            one.prepare()
            found.append(one.call())
        away = []
        for stream in ("video_BNC", "audio_BNC"):
            a, b = (getattr(velocity, stream).float() for velocity in found)
            rows = min(a.shape[1], b.shape[1]) // (1 if a.shape[1] != b.shape[1] else 2)  # reference rows come first
            away.append(((a[:, -rows:] - b[:, -rows:]).norm() / b[:, -rows:].norm()).item())
    except Exception as error:
        return short(error)
    return f"off {other.name} by {away[0]:.1e} video, {away[1]:.1e} audio"
