"""The audio codec: the program's own spectrogram, causal windows, normalised tokens, honest figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from datagen.world.pretrain import audio_codec, video_codec
from justdub import jobs
from justdub.backbone.codecs import AudioCodec
from justdub.errors import UsageError

CONFIG = Path(__file__).parents[3] / "configs" / "pretrain" / "audio_codec.yaml"
TINY = audio_codec.AudioShapeSettings(latent_channels=1, blocks=0)


@pytest.fixture(scope="module")
def samples():
    """Three two-second int16 clips: tones that come and go over noise."""
    rng = np.random.default_rng(0)
    time = np.arange(31360) / 16000
    tones = [np.sin(2 * np.pi * pitch * time) * np.clip(np.sin(5 * time + pitch), 0, 1) for pitch in (150, 300, 900)]
    return np.rint(8000 * np.array(tones) + 200 * rng.standard_normal((3, 31360))).astype(np.int16)


def test_statistics_normalise_every_number_of_a_token(samples, tmp_path):
    from diffusers import AutoencoderKLLTX2Audio

    vae = audio_codec.build(TINY).eval()
    audio_codec.set_statistics(vae, samples)
    video_codec.save(vae, tmp_path)
    saved = AutoencoderKLLTX2Audio.from_pretrained(tmp_path, torch_dtype=torch.float32)
    codec = AudioCodec(saved, None)
    latents_BCTM = torch.cat([codec.encode(clip[None].astype(np.float32) / 32767) for clip in samples])
    assert latents_BCTM.shape == (3, 1, 50, 16)
    mean, std = latents_BCTM.mean((0, 2)), latents_BCTM.std((0, 2))
    assert mean.abs().max() < 0.1 and (std - 1).abs().max() < 0.1


def test_perfect_and_flat_copies_have_the_figures_they_deserve(samples):
    class Codec(torch.nn.Module):
        """Returns what it is given, or its mean."""

        dtype, config = torch.float32, type("", (), {"sample_rate": 16000, "mel_hop_length": 160, "mel_bins": 64})

        def __init__(self, flat):
            super().__init__()
            self.flat = flat

        def encode(self, mel):
            mel = torch.full_like(mel, float(mel.mean())) if self.flat else mel
            return type("", (), {"latent_dist": type("", (), {"mode": staticmethod(lambda: mel)})})

        def decode(self, mel):
            return type("", (), {"sample": mel})

    perfect, flat = (audio_codec.measure(Codec(flat), samples) for flat in (False, True))
    assert (perfect.rmse, perfect.voiced_rmse, perfect.explained) == (0, 0, 1)
    assert flat.explained == pytest.approx(0, abs=1e-3) and flat.voiced_rmse > 0.5 and flat.rmse > 0.5


def test_the_loss_sees_one_latent_per_four_frames(samples):
    vae = audio_codec.build(TINY)
    mel = audio_codec.log_mel(vae, samples)
    assert mel.shape == (3, 1, 197, 64)
    loss, parts = audio_codec.codec_loss(vae, mel[:, :, :9], audio_codec.AudioLossSettings(), torch.Generator())
    loss.backward()
    weights = audio_codec.AudioLossSettings()
    assert float(loss.detach()) == pytest.approx(
        sum(getattr(weights, name) * part for name, part in parts.items()), rel=1e-5
    )
    assert all(p.grad is not None and p.grad.isfinite().all() for p in vae.parameters())


def test_the_command_trains_and_finishes(tmp_path, capsys):
    from datagen.world.pretrain.__main__ import main

    changes = {
        "out": tmp_path / "run", "shards": tmp_path / "shards", "train_on.clips": 3, "check_on.clips": 2,
        "report_on.clips": 2, "batch": 1, "frames": 9, "shape": {"latent_channels": 1, "blocks": 0},
        "train.steps": 2, "train.validate_every": 1,
    }  # fmt: skip
    words = [str(CONFIG), *(word for key, value in changes.items() for word in ("--set", f"{key}={value}"))]
    assert main(["audio-codec", *words, "--finish"]) == UsageError.exit_code
    assert main(["audio-codec", *words]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert main(["audio-codec", *words, "--finish"]) == 0
    assert json.loads(capsys.readouterr().out) == figures and figures["rmse"] > 0


def test_a_window_off_the_grid_or_a_silent_shard_is_refused(tmp_path):
    changes = [f"out={tmp_path}", f"shards={tmp_path}"]
    for change, message in (("frames=64", "64 mel frames"), ("train_on.sound=false", "without sound")):
        with pytest.raises(UsageError, match=message):
            audio_codec.run(jobs.load(audio_codec.AudioCodecJob, CONFIG, [*changes, change]))
