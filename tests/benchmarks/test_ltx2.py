"""The full-size benchmark: its counter against PyTorch's, and a tiny run from the command line to the table."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ltx2 import asks, clip, clock, command, models, processors, report, step, train
from benchmarks.ltx2.clock import Clock, Way
from benchmarks.ltx2.report import Report, Row
from benchmarks.ltx2.run import Run
from benchmarks.ltx2.scale import SCALES, Resolution
from benchmarks.ltx2.work import TransformerWork
from justdub.lora import inject
from justdub.lora.config import LoraSettings
from justdub.sequence import Layout, SequenceRules, StreamLayout

TRAINED = ("stock diffusers + peft, masked", "sliced", "isolated")
CODECS = (
    "video VAE encode",
    "video VAE decode",
    "video VAE decode, tiled",
    "audio VAE encode",
    "audio VAE decode",
    "vocoder",
)


def flops(call) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@torch.no_grad()
def test_the_count_of_a_step_is_exact_at_real_widths():
    """On the meta device: 960x544x121, real widths, one block."""
    scale, meta = SCALES["full"], torch.device("meta")
    module = models.LTX2VideoTransformer3DModel
    with meta:
        module = module(**scale.transformer | {"num_layers": 1}).to(torch.bfloat16)
    joint, in_mine = processors.ours(module)
    resolution, text = Resolution.parse(scale.resolution), clip.prompt(scale, meta)
    plans = {
        mode: clip.plan(joint.geometry, resolution, meta, SequenceRules(reference=mode))
        for mode in ("bidirectional", "isolated")
    }
    layout = plans["isolated"].layout
    assert (layout.video.target, layout.audio.target) == (8160, 121)
    isolated, both = plans["isolated"], clip.noisy(plans["bidirectional"])
    bare = clip.noisy(isolated.without_reference())
    cache = joint.prefill(isolated.reference_only(), text)
    calls = {
        "prefill": lambda: joint.prefill(isolated.reference_only(), text),
        "sliced": lambda: joint.velocity(both, text),
        "isolated": lambda: joint.velocity(clip.noisy(isolated), text),
        "cached": lambda: joint.velocity(bare, text, cache=cache),
    }
    for mode, call in calls.items():
        assert TransformerWork(module.config, layout, scale.text_tokens, mode).forward().flops == flops(call), mode
    for of, sequence, masks in ((layout, both, layout), (bare.layout, bare, None)):
        stock, _ = processors.stock(module, masks, meta)
        counted = flops(lambda stock=stock, sequence=sequence: stock.velocity(sequence, text))
        assert TransformerWork(module.config, of, scale.text_tokens, "masked").forward().flops == counted
    in_mine.install()
    assert flops(calls["sliced"]) == TransformerWork(module.config, layout, scale.text_tokens, "sliced").forward().flops


def tiny_run(**changes) -> Run:
    scale = SCALES["tiny"]
    settings = {
        "scale": scale,
        "resolution": Resolution.parse(scale.resolution),
        "train_resolution": Resolution.parse(scale.train_resolution),
        "rank": scale.rank,
        "dtypes": ("bf16",),
        "modes": ("eager",),
        "ways": command.WAYS,
        "repeats": 1,
        "device": torch.device("cpu"),
        "deadline": float("inf"),
        "compiler": "eager",
    }
    return Run(**settings | changes)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_the_count_of_an_update_agrees(checkpointing):
    run = tiny_run()
    module = models.transformer(run.scale, run.device)
    inject.inject(module, LoraSettings(rank=run.rank), "measured")
    parameters = [parameter for _, parameter in inject.trained(module, "measured")]
    joint, _ = processors.ours(module)
    laid_out = train.part(run, joint, "isolated")
    if checkpointing:
        joint.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(parameters)
    counted = flops(lambda: train.update(joint, laid_out, parameters, optimizer))
    work = TransformerWork(module.config, laid_out.plan.layout, run.scale.text_tokens, "isolated")
    assert work.update(run.rank, checkpointing=checkpointing).flops == pytest.approx(counted, rel=0.02)


def test_bytes_hold_every_weight_once():
    """With one token a stream, what is moved is the weights."""
    config = SimpleNamespace(**SCALES["full"].transformer)
    one = Layout(StreamLayout(0, 1), StreamLayout(0, 1))
    moved = TransformerWork(config, one, 1, "masked", weight_bytes=1).forward().bytes
    assert moved == pytest.approx(18.87e9, rel=0.002)  # parameters of LTX-2.0


def test_a_tiny_run_from_the_command_line_has_every_row(tmp_path, capsys):
    eager, compiled = tmp_path / "eager.json", tmp_path / "compiled.json"
    common = ["--scale", "tiny", "--repeats", "1", "--compiler", "eager"]
    assert command.main([*common, "--modes", "eager", "--out", str(eager)]) == 0
    only = [
        "--parts",
        "step",
        "--modes",
        "compiled",
        "--dtypes",
        "bf16",
        "--ways",
        "cached,isolated",
        "--out",
        str(compiled),
    ]
    assert command.main([*common, *only]) == 0
    capsys.readouterr()
    assert command.main(["--table", str(eager), str(compiled)]) == 0
    printed = capsys.readouterr().out
    found = report.join([Report.read(eager), Report.read(compiled)])

    expected = {("ceiling", name, "", "") for name in ("matmul bf16", "matmul fp32", "copy")}
    for dtype in ("bf16", "fp8"):
        expected |= {("step", name, dtype, "eager") for name in step.WAYS.values()}
        expected |= {("train", name, dtype, mode) for name in TRAINED for mode in train.MODES}
    expected |= {("step", name, "bf16", "compiled") for name in ("masked", "isolated", "isolated + cached")}
    expected |= {("codec", name, "bf16" if "video" in name else "fp32", "") for name in CODECS}
    expected |= {("swap", f"swap, file read {when}", "bf16", "") for when in ("before", "too")}
    expected.add(("swap", "read the file", "bf16", ""))
    assert {row.key for row in found.rows} == expected
    assert [(row.key, row.failed) for row in found.rows if row.failed] == []
    assert all(row.median_ms > 0 and row.repeats == 1 for row in found.rows)
    assert all(found.utilisation(row) > 0 for row in found.rows if row.part in ("step", "train", "codec"))
    # What is compared computes the same, compiled too (fp8 rounds the weights of both alike).
    notes = [row.note for row in found.rows if "off " in row.note]
    far = [float(word) for note in notes for word in note.split() if "e-" in word or "e+" in word]
    assert len(far) == 10 and max(far) < 0.02
    foretold = {(row.part, row.name) for row in found.rows if row.estimate_bytes}
    assert foretold == {(part, name) for part in ("step", "train") for name in ("sliced", "isolated")} | {
        ("step", "isolated + cached")
    }
    assert set(found.about) >= {"device", "versions", "commit", "date", "scale", "resolution", "settings"}
    assert all(name in printed for _, name, _, _ in expected)
    assert sum(ask.value is not None for ask in asks.asks(found)) == 8  # all but those that need a GPU's peak


def test_a_way_that_fails_is_a_row_and_the_others_go_on():
    def broken() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory | 12 GiB\n more")

    ways = [Way("good", lambda: None), Way("broken", broken), Way("fine", lambda: None)]
    rows = clock.measure("step", ways, 2, Clock(torch.device("cpu")), float("inf"))
    assert [row.failed[:16] for row in rows] == ["", "OutOfMemoryError", ""]
    assert [row.repeats for row in rows] == [2, 0, 2]
    assert "FAILED: OutOfMemoryError: CUDA out of memory / 12 GiB more" in report.table(Report({}, rows))

    def part():
        yield Row("step", "first")
        broken()

    found = list(tiny_run().guarded("step", "all ways", part))
    assert [(row.name, bool(row.failed)) for row in found] == [("first", False), ("all ways", True)]


def test_the_command_line_knows_all_ways():
    assert tuple(step.WAYS) == command.WAYS  # said twice, so that --help needs no torch


def test_nothing_is_begun_when_the_budget_is_spent(tmp_path):
    out = tmp_path / "late.json"
    assert command.main(["--budget", "0", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert {row["part"] for row in rows} == set(command.PARTS)
    assert all("budget" in row["failed"] for row in rows)


def test_asks_are_judged_and_runs_joined():
    ceiling = Row("ceiling", "matmul bf16", median_ms=10.0, flops=1e13)
    sliced = Row("step", "sliced", "bf16", "eager", median_ms=10.0, flops=4e12)
    cached = Row(
        "step", "isolated + cached", "bf16", "eager", median_ms=1.0, ratio=0.54, peak_bytes=100, estimate_bytes=89
    )
    late = Row("step", "sliced", "bf16", "eager", failed="budget")
    found = report.join([Report({"date": "1"}, [ceiling, sliced]), Report({"date": "2"}, [late, cached])])
    assert found.about["date"] == "1; 2"
    verdicts = {ask.what: ask.verdict for ask in asks.asks(found)}
    assert verdicts["isolated + cached / masked, bf16 eager"] == "met"
    assert verdicts["utilisation of the sliced step, bf16 eager"] == "MISSED"
    assert verdicts["isolated + cached / masked, bf16 compiled"] == "not measured"
    assert verdicts["estimate of memory, off the peak: step isolated + cached, bf16 eager"] == "MISSED"


@pytest.mark.parametrize("text", ["960x544", "960x540x121", "960x544x120", "0x32x9"])
def test_a_resolution_off_the_grid_is_refused(text, capsys):
    assert command.main(["--resolution", text]) == 2
    assert "960x544x121" in capsys.readouterr().err
