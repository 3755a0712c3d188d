"""The vocoder: samples per frame, a loss that is nought for the truth, exact resuming, the shipped one understood."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from datagen.world.clip import World
from datagen.world.pretrain import vocoder
from datagen.world.pretrain.audio_codec import log_mel
from datagen.world.pretrain.data import ShardSpec
from justdub import jobs
from justdub.backbone.codecs import AudioCodec
from justdub.errors import UsageError

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "pretrain" / "vocoder.yaml"
RESULTS = ROOT / "datagen" / "world" / "pretrain" / "results"
TINY = {"channels": 32, "up": [16, 10], "up_kernels": [16, 10], "kernels": [3], "dilations": [1]}


@pytest.fixture(scope="module")
def audio_vae():
    from diffusers import AutoencoderKLLTX2Audio

    return AutoencoderKLLTX2Audio.from_pretrained(
        RESULTS / "audio_codec" / "audio_vae", torch_dtype=torch.float32
    ).eval()


@pytest.fixture(scope="module")
def samples():
    """int16 (4, S): sentences of the test split."""
    world = World(seed=0, size=96, frames=49)
    spoken = [world.perform(world.plan(index, "test")).samples for index in range(4)]
    return np.rint(np.stack(spoken) * 32767).astype(np.int16)


def as_floats(samples):
    return torch.from_numpy(samples.astype(np.float32) / 32767)


def test_every_frame_is_160_samples(audio_vae, samples):
    job = jobs.load(vocoder.VocoderJob, CONFIG)
    model = vocoder.build(job.shape).eval()
    assert sum(p.numel() for p in model.parameters()) < 1_500_000
    codec = AudioCodec(audio_vae, model)
    mel = log_mel(audio_vae, samples[:2])
    assert mel.shape == (2, 1, 197, 64)
    assert vocoder.speak(model, mel).shape == (2, samples.shape[1]) == (2, 196 * 160)
    decoded_CS = codec.decode(codec.encode(as_floats(samples[:1])))
    assert decoded_CS.shape == (1, 197 * 160) and decoded_CS.dtype == torch.float32
    assert (codec.output_rate, codec.output_channels) == (16000, 1)
    with pytest.raises(UsageError, match="up"):
        vocoder.build(vocoder.VocoderShapeSettings(up=(10, 8), up_kernels=(16, 16)))


def test_the_truth_costs_nothing_and_silence_has_a_gradient(audio_vae, samples):
    true_BS = as_floats(samples[:2, :10240])

    class Known(torch.nn.Module):
        """Returns the given samples whatever the spectrogram."""

        def __init__(self, samples_BS):
            super().__init__()
            self.samples = torch.nn.Parameter(samples_BS)

        def forward(self, mel):
            return self.samples[:, None]

    batch = vocoder.VocoderBatch(log_mel(audio_vae, samples[:2])[:, :, :64], true_BS)
    truth, silence = Known(true_BS.clone()), Known(torch.zeros_like(true_BS))
    weights = vocoder.VocoderLossSettings()
    assert float(vocoder.vocoder_loss(AudioCodec(audio_vae, truth), batch, weights)[0].detach()) == 0
    _, parts = vocoder.vocoder_loss(AudioCodec(audio_vae, silence), batch, weights)
    assert 0.9 < parts["convergence"] < 1.01 and parts["mel"] > 1
    silence.samples.data += 1e-4 * torch.randn(true_BS.shape, generator=torch.Generator().manual_seed(0))
    loss, _ = vocoder.vocoder_loss(AudioCodec(audio_vae, silence), batch, weights)
    loss.backward()
    assert silence.samples.grad.isfinite().all() and silence.samples.grad.abs().max() > 0


def test_resumed_equals_uninterrupted(tmp_path, capsys):
    from datagen.world.pretrain.__main__ import main

    def words(name, steps):
        changes = {
            "out": tmp_path / name, "shards": tmp_path / "shards", "train_on.clips": 2, "check_on.clips": 1,
            "audio_codec": RESULTS / "audio_codec" / "audio_vae", "report_on.clips": 1, "decode_clips": 1,
            "decoded": 0.5, "shape": json.dumps(TINY), "batch": 2, "frames": 16, "train.steps": steps,
            "train.hold": 1.0, "train.validate_every": 2, "train.checkpoint_every": 2,
        }  # fmt: skip
        return ["vocoder", str(CONFIG), *(w for key, value in changes.items() for w in ("--set", f"{key}={value}"))]

    assert main(words("whole", 4)) == 0
    whole = capsys.readouterr().out
    assert main(words("parts", 2)) == 0
    assert main([*words("parts", 4), "--resume"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == whole.strip()
    assert main([*words("parts", 4), "--finish"]) == 0
    assert json.loads(capsys.readouterr().out)["vocoder_mel_rmse"] > 0


def test_jobs_that_cannot_be_are_refused(tmp_path):
    changes = [f"out={tmp_path}", f"shards={tmp_path}"]
    for change, message in (("check_on.sound=false", "without sound"), ("decode_clips=9000", "decode_clips 9000")):
        with pytest.raises(UsageError, match=message):
            vocoder.run(jobs.load(vocoder.VocoderJob, CONFIG, [*changes, change]))


def test_the_shipped_vocoder_is_understood(audio_vae, samples):
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    folder = RESULTS / "vocoder" / "vocoder"
    shipped = LTX2Vocoder.from_pretrained(folder, torch_dtype=torch.float32).eval()
    untrained = vocoder.build(jobs.load(vocoder.VocoderJob, CONFIG).shape).eval()
    codec, mel, true_BS = AudioCodec(audio_vae, shipped), vocoder.decode(audio_vae, samples), as_floats(samples)
    copy_BS = vocoder.speak(shipped, mel)
    ours = vocoder.measure(codec, copy_BS, true_BS)
    nothing = vocoder.measure(codec, vocoder.speak(untrained, mel), true_BS)
    assert ours.mel_rmse < 0.45 < 0.5 * nothing.mel_rmse and ours.distance < 0.6 * nothing.distance
    spec = ShardSpec(clips=len(samples), split="test")
    assert vocoder.words_heard(codec.log_mel(copy_BS).transpose(0, 1), spec) > 0.8


def test_the_classical_way_is_a_worthy_rival(audio_vae, samples):
    mel, true_BS = log_mel(audio_vae, samples[:2]), as_floats(samples[:2])
    found = vocoder.measure(AudioCodec(audio_vae, None), vocoder.griffin_lim(mel, iterations=30), true_BS)
    assert found.mel_rmse < 0.35 and found.distance < 1.1
