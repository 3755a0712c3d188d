"""The loop: exact resuming at any kill point, parts that add up, nothing written after NaN, a clean stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training as fixtures
import torch
from safetensors.torch import load_file

from justdub import jobs
from justdub.errors import UsageError
from justdub.lora.files import read
from justdub.training import checkpoint
from justdub.training.config import TrainJob
from justdub.training.loop import InterruptedRun, NonFiniteLoss, Trainer


def job(out: Path, **changes) -> TrainJob:
    tree = {
        "out": str(out),
        "data": {"list": "unused.json"},
        "lora": {"rank": 3, "alpha": 6.0, "ranks": {"audio_ff": 2}, "dropout": 0.1},
        "noise": {"apart": 0.5, "first_frame": 0.3},
        "dropout": {"no_text": 0.2, "no_reference": 0.2, "nothing": 0.1},
        "optimizer": {"rate": 3e-3, "rates": {"audio": 1e-3, "cross": 2e-3}, "warmup": 2, "average": 0.9},
        "train": {"steps": 8, "batch": 2},
        "checkpoint": {"every": 3, "last": 2},
        "log": {"every": 1},
        "rules": {"reference": "isolated"},
    }
    for name, value in changes.items():
        jobs.change(tree, f"{name.replace('__', '.')}={json.dumps(value)}")
    return jobs.build(TrainJob, tree)


def trainer(settings: TrainJob, backbone, pairs) -> Trainer:
    return Trainer(settings, backbone, pairs, fixtures.one_process())


def weights(out: Path, step: int = 8) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.folder_of(out, step) / "parameters.safetensors")


def test_the_loss_falls_and_the_file_says_what_it_is(tmp_path, tiny, pairs):
    settings = job(tmp_path / "out", train__steps=16, noise__sampler="uniform", lora__dropout=0.0, optimizer__rate=1e-2)
    outcome = trainer(settings, tiny, pairs).run()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines]
    assert sum(losses[-5:]) < 0.97 * sum(losses[:5])
    adapter = read(outcome.adapter)
    assert adapter.rules == settings.rules and adapter.metadata.steps == 16
    assert adapter.metadata.base == "tiny" and adapter.metadata.fingerprint == tiny.fingerprint
    assert adapter.metadata.rank == 3 and adapter.metadata.alpha == 6.0
    assert {f.rank for name, f in adapter.modules.items() if "audio_ff" in name} == {2}
    assert len(adapter.modules) == 2 * 28


def test_what_is_exported_is_what_was_trained(tmp_path, tiny, tiny_folder, pairs):
    """The file on a fresh backbone moves the velocity exactly as the adapter did in training, alpha folded in."""
    from justdub.backbone import checkpoint as backbones
    from justdub.lora.files import apply
    from justdub.training.step import parts

    run = trainer(job(tmp_path / "out", optimizer__average=0.0, lora__dropout=0.0), tiny, pairs)
    outcome = run.run()
    fresh = backbones.load(tiny_folder)
    part = run._parts(0)[0]
    plain = fresh.transformer.velocity(part.plan.at(part.plan.video.clean_BNC, part.plan.audio.clean_BNC,
                                       torch.full((2,), 0.5), torch.full((2,), 0.5)), part.text)  # fmt: skip
    apply(fresh.transformer.module, read(outcome.adapter), "loaded")
    found = []
    with torch.no_grad():
        for model in (tiny.transformer, fresh.transformer):
            model.module.eval()
            sigma = torch.full((len(part.examples),), 0.5)
            sequence = part.plan.at(part.plan.video.clean_BNC, part.plan.audio.clean_BNC, sigma, sigma)
            found.append(model.velocity(sequence, part.text))
    assert parts is not None and not torch.allclose(found[0].video_BNC, plain.video_BNC, atol=1e-4)
    torch.testing.assert_close(found[0].video_BNC, found[1].video_BNC, rtol=0.02, atol=0.02)  # the file is bfloat16


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path, tiny_folder, stop):
    from justdub.backbone import checkpoint as backbones

    for name, points in (("whole", [None]), ("parts", [stop, None])):
        for point in points:
            backbone = backbones.load(tiny_folder)
            pairs = fixtures.random_pairs(tmp_path / "cache", backbone)
            resume = checkpoint.choose(tmp_path / name, "auto")
            trainer(job(tmp_path / name), backbone, pairs).run(resume=resume, stop_at=point)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys() and any(key.startswith("mean.") for key in whole)
    for key, tensor in whole.items():
        assert torch.equal(tensor, parts[key]), key
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    one, other = ([json.loads(line)["loss"] for line in log] for log in logs)
    assert one == other and len(one) == 8


def test_another_job_or_other_data_is_refused_by_name(tmp_path, tiny, tiny_folder, pairs):
    from justdub.backbone import checkpoint as backbones

    out = tmp_path / "out"
    trainer(job(out), tiny, pairs).run(stop_at=2)
    state = checkpoint.choose(out, "auto")
    for changed, named in (({"optimizer__rate": 1e-4}, "optimizer.rate was 0.003, is 0.0001"),):
        with pytest.raises(UsageError, match=named):
            trainer(job(out, **changed), backbones.load(tiny_folder), pairs).run(resume=state)
    fewer = fixtures.random_pairs(tmp_path / "cache", tiny, count=4)
    with pytest.raises(UsageError, match="data was"):
        trainer(job(out), backbones.load(tiny_folder), fewer).run(resume=state)
    longer = job(out, train__steps=9)
    assert trainer(longer, backbones.load(tiny_folder), pairs).run(resume=state).steps == 9


def test_two_halves_of_an_update_are_the_whole(tmp_path, tiny, tiny_folder, pairs):
    """Accumulating over two batches of one, with masks, dropped references and kept frames, is a batch of two."""
    from justdub.backbone import checkpoint as backbones

    figures = []
    for batch, accumulate in ((4, 1), (1, 4)):
        settings = job(tmp_path / f"{batch}", train__batch=batch, train__accumulate=accumulate, lora__dropout=0.0)
        run = trainer(settings, backbones.load(tiny_folder), pairs)
        figures.append([run.update(step) for step in range(3)])
    for one, other in zip(*figures, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["norm"] == pytest.approx(other["norm"], rel=1e-4)


def test_blocks_that_are_run_again_compute_the_same(tmp_path, tiny_folder, pairs):
    """Gradient checkpointing: memory for time, nothing else."""
    from justdub.backbone import checkpoint as backbones

    figures = []
    for again in (False, True):
        settings = job(tmp_path / f"{again}", train__checkpointing=again, lora__dropout=0.0)
        run = trainer(settings, backbones.load(tiny_folder), pairs)
        figures.append([run.update(step) for step in range(2)])
    for one, other in zip(*figures, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["norm"] == pytest.approx(other["norm"], rel=1e-4)


def test_nan_stops_before_the_update_and_names_the_clips(tmp_path, tiny, pairs):
    settings = job(tmp_path / "out", train__batch=6)
    sample = pairs.cache.read_sample(pairs.pairs[4].sample)
    sample.audio_target_CTM[0, 0, 0] = float("nan")
    pairs.cache.write_sample(pairs.pairs[4].sample, sample)
    run = trainer(settings, tiny, pairs)
    before = {name: parameter.clone() for name, parameter in run.named.items()}
    with pytest.raises(NonFiniteLoss, match=r"step 1: .*target4\.mp4 \(entry 5") as error:
        run.run()
    assert error.value.exit_code == 3
    assert all(torch.equal(before[name], parameter) for name, parameter in run.named.items())
    assert not list(tmp_path.glob("out/checkpoints/*")) and not list(tmp_path.glob("out/*.safetensors"))


def test_a_frozen_group_stays_and_the_others_move(tmp_path, tiny, pairs):
    run = trainer(job(tmp_path / "out", optimizer__rates={"cross": 0.0, "ff": 1e-5}), tiny, pairs)
    assert {group["base"] for group in run.optimizer.param_groups} == {3e-3, 1e-5}
    base = {name: p.clone() for name, p in tiny.transformer.module.named_parameters() if ".lora_" not in name}
    for step in range(2):
        run.update(step)
    cross = [
        p for name, p in tiny.transformer.module.named_parameters() if "to_video_attn" in name and "lora_B" in name
    ]
    assert cross and not any(p.any() for p in cross)
    now = dict(tiny.transformer.module.named_parameters())
    assert all(torch.equal(tensor, now[name]) for name, tensor in base.items())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path, tiny, pairs, number):
    run, seen = trainer(job(tmp_path / "out", checkpoint__every=100), tiny, pairs), []
    update = run.update

    def third_one_asks(step: int) -> dict[str, float]:
        if step == 2:
            os.kill(os.getpid(), number)
        seen.append(step)
        return update(step)

    run.update = third_one_asks
    before = signal.getsignal(number)
    with pytest.raises(InterruptedRun, match="stopped after step 3 of 8") as error:
        run.run()
    assert error.value.exit_code == 130 and seen == [0, 1, 2]
    assert signal.getsignal(number) is before
    assert [path.name for path in checkpoint.found(tmp_path / "out")] == ["step-000003"]


def test_killed_while_saving_leaves_the_state_before(tmp_path, tiny, pairs, monkeypatch):
    out = tmp_path / "out"
    run = trainer(job(out), tiny, pairs)
    run.run(stop_at=3)
    for victim in ("save_file", "torch.save"):

        def killed(*args, **kwargs):
            Path(args[1] if isinstance(args[1], (str, Path)) else args[0]).write_bytes(b"half")
            raise KeyboardInterrupt

        target = f"justdub.training.checkpoint.{victim}" if victim == "save_file" else victim
        with monkeypatch.context() as patch:
            patch.setattr(target, killed)
            with pytest.raises(KeyboardInterrupt):
                run._save(4, 1.0)
        states = checkpoint.found(out)
        assert [path.name for path in states] == ["step-000003"]
        assert checkpoint.read(states[0], run.identity).step == 3
    run._save(4, 1.0)
    assert [path.name for path in checkpoint.found(out)] == ["step-000003", "step-000004"]
    assert not list((out / "checkpoints").glob(".*"))


TWO = """
import json, sys
from pathlib import Path
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
import tiny_training as fixtures
from justdub.backbone import checkpoint as backbones
from test_loop import job
from justdub.training.loop import Trainer
accelerator = Accelerator(cpu=True)
backbone = backbones.load({folder!r})
pairs = fixtures.random_pairs(Path({cache!r}) / str(accelerator.process_index), backbone)
settings = job(Path({out!r}), train__batch=accelerator.num_processes % 2 + 1, lora__dropout=0.0)
run = Trainer(settings, backbone, pairs, accelerator)
figures = [run.update(step) for step in range(3)]
if accelerator.is_main_process:
    total = sum(float(p.detach().double().abs().sum()) for p in run.named.values())
    print(json.dumps([figures, total]))
"""


def test_two_processes_compute_what_one_does_with_twice_the_batch(tmp_path, tiny_folder):
    script = tmp_path / "two.py"
    paths = [str(folder) for folder in (Path(__file__).parent, *Path(__file__).parents[1:3])]
    script.write_text(
        TWO.format(path=paths, folder=str(tiny_folder), cache=str(tmp_path / "cache"), out=str(tmp_path / "out"))
    )
    found = []
    for processes in (1, 2):
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=0",
                   "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    (one, total), (two, other) = found
    for step in range(3):
        for name in ("loss", "video", "audio"):
            assert one[step][name] == pytest.approx(two[step][name], rel=1e-5)
        assert one[step]["norm"] == pytest.approx(two[step]["norm"], rel=1e-4)
    assert total == pytest.approx(other, rel=1e-5)
