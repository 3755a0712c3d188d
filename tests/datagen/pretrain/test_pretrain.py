"""Codec training: Muon's matrices, exact resuming, normalised latents, honest figures, strict jobs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from datagen.world.pretrain import data, measure, muon, training, video_codec
from justdub import jobs
from justdub.backbone.codecs import VideoCodec
from justdub.errors import BadInputError, UsageError

CONFIGS = Path(__file__).parents[3] / "configs" / "pretrain"
TINY = video_codec.ShapeSettings(
    latent_channels=4,
    patch=8,
    channels=(16, 16),
    down=("spatiotemporal", "temporal"),
    layers=(0, 0, 1),
    decoder_channels=(8, 16),
    up=("spatiotemporal", "temporal"),
    up_factor=(1, 2),
    decoder_layers=(1, 0, 1),
)
WINDOW = video_codec.WindowSettings(batch=2, frames=5, crop=32)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    spec = data.ShardSpec(clips=6, size=96, frames=49, sound=True)
    return data.prepare(tmp_path_factory.mktemp("shard"), spec)


def test_muon_orthogonalises():
    torch.manual_seed(0)
    for shape in ((24, 160), (160, 24), (32, 32)):
        matrix = torch.randn(shape)
        values = torch.linalg.svdvals(muon.orthogonalise(matrix))
        assert values.min() > 0.6 and values.max() < 1.3
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(
            muon.orthogonalise(matrix).flatten(), (left @ right).flatten(), dim=0
        ) > (0.95 if shape[0] != shape[1] else 0.9)
    assert not muon.orthogonalise(torch.zeros(3, 5)).any()


def test_muon_agrees_with_the_iteration_on_the_whole_matrix():
    torch.manual_seed(1)
    matrix = torch.randn(16, 90, dtype=torch.float32)
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(muon.orthogonalise(matrix), x, atol=1e-4, rtol=1e-3)


def test_muon_moves_every_parameter_and_only_those_with_gradients():
    torch.manual_seed(2)
    layer, idle = torch.nn.Conv3d(3, 4, 3), torch.nn.Linear(2, 2)
    before = [p.detach().clone() for p in (*layer.parameters(), *idle.parameters())]
    optimizer = muon.Muon([*layer.parameters(), *idle.parameters()], lr=0.1, adam_lr=0.1)
    layer(torch.randn(1, 3, 4, 4, 4)).square().sum().backward()
    optimizer.step()
    after = [*layer.parameters(), *idle.parameters()]
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, False, True, True]
    step = (before[0] - after[0]).detach()
    assert 0.013 < step.square().mean().sqrt() < 0.025  # 0.1 x 0.2, whatever the gradient's size


def test_shard_resumes_to_the_same_bytes(shard, tmp_path):
    spec = dataclasses.replace(shard.spec, clips=20)
    whole = data.prepare(tmp_path / "whole", spec)
    seen = []

    def stop(done, of):
        seen.append((done, of))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.prepare(tmp_path / "halves", spec, stop)
    with pytest.raises(BadInputError, match="16 of 20"):
        data.open_shard(tmp_path / "halves")
    halves = data.prepare(tmp_path / "halves", spec)
    for name in ("frames", "mouth", "eyes", "lids", "samples"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(halves, name))
        np.testing.assert_array_equal(getattr(whole, name)[:6], getattr(shard, name))
    with pytest.raises(UsageError, match="other clips"):
        data.prepare(tmp_path / "whole", dataclasses.replace(spec, seed=3))


def train_tiny(shard, folder, *, stop_at=None, resume=False, steps=6, **changes):
    vae = video_codec.build(TINY, seed=0 if not resume else 99)  # a resumed run must not depend on its first weights
    settings = training.TrainSettings(
        steps=steps, warmup=2, log_every=2, checkpoint_every=2, validate_every=3, **changes
    )
    loss = video_codec.VideoLossSettings()

    def loss_at(step):
        batch = video_codec.draw_windows(shard, WINDOW, loss, 0, step)
        return video_codec.codec_loss(vae, batch, loss, torch.Generator().manual_seed(step))

    job = {"train": dataclasses.asdict(settings)}
    training.train(
        vae, loss_at, settings, folder, job=job, resume=resume, stop_at=stop_at, validate=lambda: {"score": 1.0}
    )
    return torch.load(folder / "last.pt", weights_only=True)


def test_resumed_run_equals_the_uninterrupted_one(shard, tmp_path):
    whole = train_tiny(shard, tmp_path / "whole")
    train_tiny(shard, tmp_path / "parts", stop_at=3)
    parts = train_tiny(shard, tmp_path / "parts", resume=True)
    for name, weight in whole["model"].items():
        assert torch.equal(weight, parts["model"][name]), name
    for index, state in whole["optimizer"]["state"].items():
        for name, value in state.items():
            other = parts["optimizer"]["state"][index][name]
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other
    logs = [[json.loads(line) for line in (tmp_path / n / "log.jsonl").open()] for n in ("whole", "parts")]
    assert [line["step"] for line in logs[0]] == [2, 3, 4, 6, 6] == [line["step"] for line in logs[1]]
    assert logs[0][-2]["loss"] == logs[1][-2]["loss"] and "eta_s" in logs[0][-2]


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(shard, tmp_path):
    train_tiny(shard, tmp_path / "run", stop_at=2)
    with pytest.raises(UsageError, match="holds a run"):
        train_tiny(shard, tmp_path / "run")
    with pytest.raises(UsageError, match="other settings in train"):
        train_tiny(shard, tmp_path / "run", resume=True, lr=1.0)
    with pytest.raises(UsageError, match="nothing to resume"):
        train_tiny(shard, tmp_path / "none", resume=True)
    train_tiny(shard, tmp_path / "run", resume=True, steps=8)


def test_a_loss_that_is_no_number_never_reaches_the_weights(tmp_path):
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    with pytest.raises(BadInputError, match="loss of step 0"):
        training.train(
            layer, lambda step: (layer.weight.sum() * float("nan"), {}), training.TrainSettings(), tmp_path, job={}
        )
    assert torch.equal(layer.weight, before)


def test_the_rate_warms_up_holds_and_falls():
    settings = training.TrainSettings(steps=100, warmup=10, hold=0.5, floor=0.1)
    rates = [training.rate(settings, step) for step in range(100)]
    assert rates[0] == 0.1 and rates[9:51] == [1.0] * 42
    assert np.all(np.diff(rates[50:]) < 0) and 0.1 < rates[-1] < 0.13


def test_statistics_normalise_latents_and_survive_saving(shard, tmp_path):
    from diffusers import AutoencoderKLLTX2Video

    vae = video_codec.build(TINY).eval()
    video_codec.set_statistics(vae, shard.frames)
    video_codec.save(vae, tmp_path)
    assert next(vae.parameters()).dtype == torch.float32
    saved = AutoencoderKLLTX2Video.from_pretrained(tmp_path, torch_dtype=torch.float32)
    codec = VideoCodec(saved)
    latents = torch.cat([codec.encode(clip.copy()) for clip in shard.frames])
    assert latents.shape == (6, 4, 13, 6, 6)
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    assert mean.abs().max() < 0.05 and (std - 1).abs().max() < 0.05
    assert codec.decode(latents[:1]).shape == (49, 96, 96, 3)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 32), (9, 64, 96), (5, 160, 32)])
def test_other_sizes_pass_through(frames, height, width):
    codec = VideoCodec(video_codec.build(TINY).eval())
    clip = np.zeros((frames, height, width, 3), np.uint8)
    assert codec.decode(codec.encode(clip)).shape == clip.shape


def test_the_first_latent_sees_the_first_frame_alone():
    codec = VideoCodec(video_codec.build(TINY).eval())
    clip = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    other = clip.copy()
    other[1:] = 0
    assert torch.equal(codec.encode(clip)[:, :, 0], codec.encode(other)[:, :, 0])


def test_windows_weigh_mouths_and_depend_on_their_step_alone(shard):
    loss = video_codec.VideoLossSettings(mouth=5.0, eyes=2.0)
    window = video_codec.WindowSettings(batch=3, frames=9)
    first, again = (video_codec.draw_windows(shard, window, loss, 1, 7) for _ in range(2))
    assert torch.equal(first.pixels, again.pixels) and torch.equal(first.weights, again.weights)
    assert not torch.equal(first.pixels, video_codec.draw_windows(shard, window, loss, 1, 8).pixels)
    assert first.pixels.shape == (3, 3, 9, 96, 96) and first.pixels.min() >= -1 and first.pixels.max() <= 1
    assert first.weights.mean().item() == pytest.approx(1, abs=1e-4)
    ratios = (first.weights / first.weights.min()).unique()
    torch.testing.assert_close(ratios, torch.tensor([1.0, 2.0, 5.0]))


def test_crops_hold_the_mouth(shard):
    loss = video_codec.VideoLossSettings(mouth=100.0, eyes=1.0)
    window = video_codec.WindowSettings(batch=24, frames=5, crop=64, mouth=1.0)
    counts = video_codec.draw_windows(shard, window, loss, 0, 0).weights[:, 0]
    mouth = counts > counts.amin() * 10
    assert mouth.flatten(1).any(1).all()
    edges = mouth[:, :, [0, -1]].sum() + mouth[:, :, :, [0, -1]].sum()
    assert edges < 0.02 * mouth.sum()  # the margin of the box may be cut, the box not


def test_windows_change_at_their_step():
    windows = (video_codec.WindowSettings(batch=1, until=10), video_codec.WindowSettings(batch=2, until=12))
    assert [video_codec.window_at(windows, step).batch for step in (0, 9, 10, 11, 12)] == [1, 1, 2, 2, 2]


def test_motion_counts_in_the_loss(shard):
    loss = video_codec.VideoLossSettings()
    batch = video_codec.draw_windows(shard, WINDOW, loss, 0, 0)

    class Frozen(torch.nn.Module):
        """A codec that repeats the first frame."""

        config = type("", (), {"latent_channels": 3})

        def encoder(self, pixels):
            return torch.cat((pixels, pixels[:, :1]), 1)

        def decoder(self, latents):
            return latents[:, :, :1].expand_as(latents)

    silent = dataclasses.replace(loss, noise=0.0)
    _, figures = video_codec.codec_loss(Frozen(), batch, silent, torch.Generator())
    true = (batch.pixels[:, :, 1:] - batch.pixels[:, :, :-1]).square()
    weights = torch.maximum(batch.weights[:, :, 1:], batch.weights[:, :, :-1])
    assert figures["motion"] == pytest.approx((weights * true).mean().item(), rel=1e-5)


def test_perfect_copies_have_perfect_figures(shard):
    figures = measure.measure_video(shard, shard.frames)
    assert figures.psnr == figures.mouth_psnr == 100
    assert figures.motion_correlation == pytest.approx(1) and figures.motion_energy == pytest.approx(1)
    assert figures.blinks >= 3 and figures.blink_depth == pytest.approx(1) and figures.blinks_kept == 1


def test_frozen_copies_do_not_move(shard):
    frozen = np.broadcast_to(shard.frames[:, :1], shard.frames.shape)
    figures = measure.measure_video(shard, frozen)
    assert figures.motion_correlation == figures.motion_energy == figures.blink_depth == figures.blinks_kept == 0
    noisy = np.random.default_rng(0).integers(0, 256, shard.frames.shape, dtype=np.uint8)
    assert abs(measure.measure_video(shard, noisy).motion_correlation) < 0.02


def test_half_the_contrast_is_half_the_blink_and_a_quarter_of_the_energy(shard):
    grey = (shard.frames[:].astype(np.float32) / 2 + 64).astype(np.float32)
    figures = measure.measure_video(shard, grey)
    assert figures.blink_depth == pytest.approx(0.5) and figures.motion_energy == pytest.approx(0.25)
    assert figures.motion_correlation == pytest.approx(1)


def test_a_known_error_has_its_decibels(shard):
    assert measure.measure_video(shard, shard.frames[:].astype(np.float32) + 25.5).psnr == pytest.approx(20, abs=1e-4)


def test_the_committed_job_is_understood():
    job = jobs.load(video_codec.VideoCodecJob, CONFIGS / "video_codec.yaml", ["train.lr=2e-3", "loss.eyes=3"])
    assert job.train.lr == 2e-3 and job.loss.eyes == 3.0
    assert all((window.frames - 1) % job.shape.temporal_ratio == 0 for window in job.windows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.step=3", "unknown key train.step.*steps"),
        ("train.steps=many", "train.steps is 'many'.*int"),
        ("train.steps=true", "train.steps is True"),
        ("shape.channels=3", "shape.channels is 3.*list"),
        ("train.steps", "expected --set a.b=value"),
        ("out.folder=3", "out is a value"),
    ],
)
def test_wrong_jobs_are_refused_by_name(change, message):
    with pytest.raises(UsageError, match=message):
        jobs.load(video_codec.VideoCodecJob, CONFIGS / "video_codec.yaml", [change])


def test_the_command_trains_saves_and_measures(tmp_path, capsys):
    from datagen.world.pretrain.__main__ import main

    changes = {
        "out": tmp_path / "run", "shards": tmp_path / "shards", "train_on": {"clips": 2}, "check_on.clips": 1,
        "report_on": {"clips": 6, "split": "test"}, "check_clips": 1, "train.steps": 2, "train.validate_every": 2,
        "shape.channels": [16, 16], "shape.decoder_channels": [8, 16], "shape.latent_channels": 4,
        "windows": [{"batch": 1, "frames": 5, "crop": 32}],
    }  # fmt: skip
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    assert main(["video-codec", str(CONFIGS / "video_codec.yaml"), *words]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["psnr"] > 0 and "min left" in err and "validation" in err
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} >= {"vae", "figures.json", "sheet.png", "log.jsonl", "last.pt"}
    assert main(["video-codec", str(CONFIGS / "video_codec.yaml"), *words]) == UsageError.exit_code
    assert main(["video-codec", str(CONFIGS / "video_codec.yaml"), *words, "--finish"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out)
    more = {"out": tmp_path / "more", "start_from": run, "train.steps": 1, "train.lr": 0.0, "train.adam_lr": 0.0}
    words += [word for key, value in more.items() for word in ("--set", f"{key}={value}")]
    assert main(["video-codec", str(CONFIGS / "video_codec.yaml"), *words]) == 0
    first, second = (torch.load(folder / "last.pt", weights_only=True)["model"] for folder in (run, tmp_path / "more"))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
