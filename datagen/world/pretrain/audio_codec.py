"""The small `AutoencoderKLLTX2Audio` of the drawn world: log-mel spectrograms of speech <-> 25 latents per second.

The spectrogram is the program's own (`AudioCodec.log_mel`: 16 kHz, 64 bins, 100 frames/s, natural logarithm). The
first latent step stands for the first mel frame alone, every other one for four (the class is causal in time).

Legend: B batch, S samples, T mel frames, M mel bins, C latent channels, t/m the latents' grid; K = C x m.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datagen.world.pretrain.data import Shard, ShardSpec, open_or_draw
from datagen.world.pretrain.training import Figures, TrainSettings, half_precision, restore, train
from datagen.world.pretrain.video_codec import save
from justdub.backbone.codecs import AudioCodec
from justdub.errors import UsageError

_LOGVAR = -4.6  # of the posterior: sample() then adds 0.1, the noise the decoder is trained with
_STEP = 4  # mel frames per latent step, fixed in the class
_SILENCE = -6.0  # nat: about the mean of the world's spectrograms, where the decoder's output starts


@dataclass(frozen=True)
class AudioShapeSettings:
    """Arguments of `AutoencoderKLLTX2Audio`. A token is `latent_channels` x 16 numbers, which is also the width."""

    latent_channels: int = 4
    widths: tuple[int, ...] = (1, 1, 1)
    blocks: int = 1


@dataclass(frozen=True)
class AudioLossSettings:
    """Weights: `absolute` and `square` of the error in nat; `steps` of the squared error of frame differences;
    `latent`, `posterior` and `noise` as in the video codec."""

    absolute: float = 1.0
    square: float = 0.5
    steps: float = 0.25
    noise: float = 0.1
    latent: float = 5e-3
    posterior: float = 1e-3


@dataclass(frozen=True)
class AudioCodecJob:
    """As `VideoCodecJob`; the clips must have sound. A step sees `batch` windows of `frames` mel frames."""

    out: str
    shards: str
    train_on: ShardSpec = field(default_factory=lambda: ShardSpec(sound=True))
    check_on: ShardSpec = field(default_factory=lambda: ShardSpec(clips=48, split="library", sound=True))
    report_on: ShardSpec = field(default_factory=lambda: ShardSpec(clips=48, split="test", sound=True))
    shape: AudioShapeSettings = field(default_factory=AudioShapeSettings)
    loss: AudioLossSettings = field(default_factory=AudioLossSettings)
    batch: int = 8
    frames: int = 65
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class AudioFigures:
    """rmse: of log-mel, nat, all bins and frames of all clips; voiced_rmse: of bins within 7 nat of a clip's loudest
    (what is heard); explained: share of the variance."""

    rmse: float
    voiced_rmse: float
    explained: float


def build(shape: AudioShapeSettings, seed: int = 0) -> Any:
    """The model with random weights: mono, causal, 16 kHz, 64 bins."""
    from diffusers import AutoencoderKLLTX2Audio

    torch.manual_seed(seed)
    vae = AutoencoderKLLTX2Audio(
        base_channels=16 * shape.latent_channels,
        output_channels=1,
        in_channels=1,
        ch_mult=shape.widths,
        num_res_blocks=shape.blocks,
        resolution=64,
        latent_channels=shape.latent_channels,
        mel_bins=64,
    )
    torch.nn.init.constant_(vae.decoder.conv_out.conv.bias, _SILENCE)
    return vae.to(memory_format=torch.channels_last)


def log_mel(vae: Any, samples_BS: np.ndarray) -> Tensor:
    """int16 clips -> (B, 1, T, M) float32, nat."""
    samples = torch.from_numpy(samples_BS.astype(np.float32) / 32767)
    return AudioCodec(vae, None).log_mel(samples).transpose(0, 1)


def draw_windows(vae: Any, shard: Shard, batch: int, frames: int, seed: int, step: int) -> Tensor:
    """Spectrograms (B, 1, `frames`, M) of random places; the same for the same seed and step."""
    rng = np.random.default_rng([seed, step])
    mel = log_mel(vae, np.stack([shard.samples[clip] for clip in rng.integers(len(shard), size=batch)]))
    first = rng.integers(mel.shape[2] - frames + 1, size=batch)
    return torch.stack([clip[:, start : start + frames] for clip, start in zip(mel, first, strict=True)])


def codec_loss(
    vae: Any, mel_B1TM: Tensor, settings: AudioLossSettings, noise: torch.Generator
) -> tuple[Tensor, Figures]:
    """Loss of one batch, and its parts as numbers."""
    latents_BCtm, logvar = vae.encoder(mel_B1TM).chunk(2, dim=1)
    extra = settings.noise * torch.randn(latents_BCtm.shape, generator=noise)
    error = vae.decoder(latents_BCtm + extra) - mel_B1TM
    parts = {
        "absolute": error.abs().mean(),
        "square": error.square().mean(),
        "steps": (error[:, :, 1:] - error[:, :, :-1]).square().mean(),
        "latent": latents_BCtm.square().mean(),
        "posterior": (logvar - _LOGVAR).square().mean(),
    }
    loss = sum(getattr(settings, name) * part for name, part in parts.items())
    return loss, {name: float(part.detach()) for name, part in parts.items()}


@torch.inference_mode()
def set_statistics(vae: Any, samples_BS: np.ndarray) -> None:
    """Mean and deviation of each of a token's K numbers (channels outside bins), from whole clips."""
    latents_BCtm = vae.encode(log_mel(vae, samples_BS).to(vae.dtype)).latent_dist.mode().double()
    vae.latents_mean.copy_(latents_BCtm.mean((0, 2)).flatten())
    vae.latents_std.copy_(latents_BCtm.std((0, 2)).flatten().clamp(min=1e-4))


@torch.inference_mode()
def measure(vae: Any, samples_BS: np.ndarray) -> AudioFigures:
    """Figures of whole clips through the codec and back."""
    mel = log_mel(vae, samples_BS).to(vae.dtype)
    error = (vae.decode(vae.encode(mel).latent_dist.mode()).sample - mel).double().square()
    heard = mel > mel.amax((1, 2, 3), keepdim=True) - 7
    return AudioFigures(
        rmse=float(error.mean().sqrt()),
        voiced_rmse=float(error[heard].mean().sqrt()),
        explained=float(1 - error.mean() / mel.double().var()),
    )


def run(
    job: AudioCodecJob,
    *,
    resume: bool = False,
    finish_only: bool = False,
    report: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Draw what is missing, train, set the statistics, save to `out`/audio_vae and measure what was saved.

    Returns the figures on `report_on`, also written to `out`/figures.json. `finish_only` trains no more.
    """
    from diffusers import AutoencoderKLLTX2Audio

    specs = (job.train_on, job.check_on, job.report_on)
    if not all(spec.sound for spec in specs):
        raise UsageError("clips without sound", expected="sound: true for train_on, check_on and report_on")
    if (job.frames - 1) % _STEP:
        raise UsageError(f"windows of {job.frames} mel frames", expected=f"a multiple of {_STEP}, plus one")
    torch.set_num_threads(job.train.threads)
    folder = Path(job.out)
    base, check, test = (open_or_draw(Path(job.shards), spec, report) for spec in specs)
    vae = build(job.shape, job.train.seed)

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        mel = draw_windows(vae, base, job.batch, job.frames, job.train.seed, step)
        noise = torch.Generator().manual_seed(1_000_003 * job.train.seed + step)
        with half_precision(job.train):
            return codec_loss(vae, mel, job.loss, noise)

    def validate() -> Figures:
        found = asdict(measure(vae, np.asarray(check.samples)))
        return found | {"score": -found["rmse"] - found["voiced_rmse"]}

    if finish_only:
        restore(vae, folder / "best.pt")
    else:
        plain = json.loads(json.dumps(asdict(job)))
        train(vae, loss_at, job.train, folder, job=plain, resume=resume, validate=validate, report=report)
    set_statistics(vae, np.asarray(base.samples[:256]))
    save(vae, folder / "audio_vae")
    saved = AutoencoderKLLTX2Audio.from_pretrained(folder / "audio_vae", torch_dtype=torch.float32).eval()
    figures = asdict(measure(saved, np.asarray(test.samples)))
    figures |= {"parameters": sum(p.numel() for p in saved.parameters())}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures
