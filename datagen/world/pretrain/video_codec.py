"""The small `AutoencoderKLLTX2Video` of the drawn world: its shape, its loss, its training and its statistics.

Pixels are -1..1. The first latent stands for the first frame alone, every other one for `temporal_ratio` frames, as
the class does it; windows of clips therefore hold a multiple of it plus one.

Legend: B batch, C latent channels, F/H/W frames/height/width in pixels (lower case: of latents), N clips.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datagen.world.pretrain.data import Shard, ShardSpec, open_or_draw
from datagen.world.pretrain.measure import measure_codec, reconstruct, write_sheet
from datagen.world.pretrain.training import Figures, TrainSettings, half_precision, restore, train
from justdub.errors import UsageError

_LOGVAR = -4.6  # of the posterior: sample() then adds 0.1, the noise the decoder is trained with
_LIP_MARGIN = 2.0  # pixels around the lips' box that still count as mouth


@dataclass(frozen=True)
class ShapeSettings:
    """Arguments of `AutoencoderKLLTX2Video`. Encoder lists run from fine to coarse; `decoder_channels`,
    `decoder_layers` and `up_factor` too (`decoder_layers` ends with the middle block), `up` from coarse to fine.
    """

    latent_channels: int = 32
    spatial_ratio: int = 16
    temporal_ratio: int = 4
    patch: int = 4
    channels: tuple[int, ...] = (64, 128, 128)
    down: tuple[str, ...] = ("spatial", "spatiotemporal", "temporal")
    layers: tuple[int, ...] = (1, 1, 1, 1)
    decoder_channels: tuple[int, ...] = (64, 128, 128)
    up: tuple[str, ...] = ("temporal", "spatiotemporal", "spatial")
    up_factor: tuple[int, ...] = (2, 2, 1)
    decoder_layers: tuple[int, ...] = (1, 1, 1, 1)


@dataclass(frozen=True)
class VideoLossSettings:
    """Weights of the parts of the loss.

    Attributes:
        absolute, square: of the pixels' error; motion: of the square of the error of frame differences (squared,
            because an absolute error there shrinks motion). mouth, eyes: how much more a pixel of the lips' or the
            eyes' box counts. noise: deviation of the noise added to latents before decoding. latent: of the latents'
            mean square, which keeps them near unit size. posterior: pulls the log variance to the noise's.
    """

    absolute: float = 0.5
    square: float = 2.0
    motion: float = 2.0
    mouth: float = 4.0
    eyes: float = 2.0
    noise: float = 0.1
    latent: float = 5e-3
    posterior: float = 1e-3


@dataclass(frozen=True)
class WindowSettings:
    """What a step sees: `batch` windows of `frames` frames and `crop` pixels a side (0: the whole frame), from random
    places of random clips, mirrored half of the time; the share `mouth` of the crops holds the mouth. Valid before
    step `until` (0: to the end)."""

    batch: int = 4
    frames: int = 17
    crop: int = 0
    mouth: float = 0.0
    until: int = 0


@dataclass(frozen=True)
class VideoCodecJob:
    """`out`: folder of the run. `shards`: folder for drawn clips. `train_on`, `check_on` (picks the best weights),
    `report_on`: the clips. `check_clips`: of the second, used at each validation. `windows`: small ones first, since
    the first steps need to be many rather than good. `start_from`: folder of a run of the same shape whose last
    weights this one starts with ("": random ones); its schedule is its own. `decoder_only`: the encoder stays as it
    is, and with it all latents made so far."""

    out: str
    shards: str
    train_on: ShardSpec = field(default_factory=ShardSpec)
    check_on: ShardSpec = field(default_factory=lambda: ShardSpec(clips=16, split="library"))
    report_on: ShardSpec = field(default_factory=lambda: ShardSpec(clips=48, split="test"))
    check_clips: int = 8
    start_from: str = ""
    decoder_only: bool = False
    shape: ShapeSettings = field(default_factory=ShapeSettings)
    loss: VideoLossSettings = field(default_factory=VideoLossSettings)
    windows: tuple[WindowSettings, ...] = (WindowSettings(),)
    train: TrainSettings = field(default_factory=TrainSettings)


def window_at(windows: tuple[WindowSettings, ...], step: int) -> WindowSettings:
    """The settings of a step."""
    return next((window for window in windows if not window.until or step < window.until), windows[-1])


@dataclass(frozen=True)
class VideoBatch:
    """pixels -1..1 (B, 3, F, H, W) and how much each counts, (B, 1, F, H, W) with mean 1."""

    pixels: Tensor
    weights: Tensor


def build(shape: ShapeSettings, seed: int = 0) -> Any:
    """The model with random weights.

    Zeros padding in the decoder: with the class's own "reflect" training stalls for long on the mean colour.
    """
    from diffusers import AutoencoderKLLTX2Video

    depth = len(shape.channels)
    torch.manual_seed(seed)
    vae = AutoencoderKLLTX2Video(
        latent_channels=shape.latent_channels,
        block_out_channels=shape.channels,
        down_block_types=("LTX2VideoDownBlock3D",) * depth,
        layers_per_block=shape.layers,
        spatio_temporal_scaling=(True,) * depth,
        downsample_type=shape.down,
        decoder_block_out_channels=shape.decoder_channels,
        decoder_layers_per_block=shape.decoder_layers,
        decoder_spatio_temporal_scaling=(True,) * len(shape.up),
        decoder_inject_noise=(False,) * (len(shape.up) + 1),
        upsample_type=shape.up,
        upsample_residual=(True,) * len(shape.up),
        upsample_factor=shape.up_factor,
        patch_size=shape.patch,
        decoder_causal=False,
        decoder_spatial_padding_mode="zeros",
        spatial_compression_ratio=shape.spatial_ratio,
        temporal_compression_ratio=shape.temporal_ratio,
    )
    return vae.to(memory_format=torch.channels_last_3d)


def draw_windows(shard: Shard, settings: WindowSettings, loss: VideoLossSettings, seed: int, step: int) -> VideoBatch:
    """The windows of a step; the same for the same seed and step."""
    rng = np.random.default_rng([seed, step])
    size = shard.frames.shape[2]
    crop = settings.crop or size
    pixels, weights = [], []
    for clip in rng.integers(len(shard), size=settings.batch):
        first = int(rng.integers(shard.frames.shape[1] - settings.frames + 1))
        x, y = rng.integers(size - crop + 1, size=2)
        time = slice(first, first + settings.frames)
        if rng.uniform() < settings.mouth:
            x, y = _around(shard.mouth[clip, time], crop, size, rng)
        frames = shard.frames[clip, time, y : y + crop, x : x + crop]
        counts = _counts(shard.mouth[clip, time], shard.eyes[clip, time], size, loss)[:, y : y + crop, x : x + crop]
        if rng.uniform() < 0.5:
            frames, counts = frames[:, :, ::-1], counts[:, :, ::-1]
        pixels.append(frames)
        weights.append(counts)
    pixels_BFHW3, weights_BFHW = torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(weights))
    return VideoBatch(
        pixels_BFHW3.permute(0, 4, 1, 2, 3).float().div_(127.5).sub_(1), (weights_BFHW / weights_BFHW.mean())[:, None]
    )


def _around(mouth_F4: np.ndarray, crop: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Corner x, y of a random crop that holds the mouth, as far as crop and frame allow."""
    low, high = mouth_F4[:, :2].min(0), mouth_F4[:, 2:].max(0)
    first, last = np.clip(np.ceil(high) - crop, 0, size - crop), np.clip(np.floor(low), 0, size - crop)
    return rng.integers(np.minimum(first, last), np.maximum(first, last) + 1).astype(int)


def _counts(mouth_F4: np.ndarray, eyes_F4: np.ndarray, size: int, loss: VideoLossSettings) -> np.ndarray:
    """(F, size, size) float32: how much each pixel counts."""
    centre = np.arange(size) + 0.5
    counts = np.ones((len(mouth_F4), size, size), np.float32)
    for boxes, margin, weight in ((eyes_F4, 0.0, loss.eyes), (mouth_F4, _LIP_MARGIN, loss.mouth)):
        x0, y0, x1, y1 = (boxes[:, k, None] for k in range(4))
        inside_x = (centre > x0 - margin) & (centre < x1 + margin)
        inside_y = (centre > y0 - margin) & (centre < y1 + margin)
        counts[inside_y[:, :, None] & inside_x[:, None, :]] = weight
    return counts


def codec_loss(
    vae: Any, batch: VideoBatch, settings: VideoLossSettings, noise: torch.Generator
) -> tuple[Tensor, Figures]:
    """Loss of one batch, and its parts as numbers (train_psnr in dB, unweighted)."""
    moments = vae.encoder(batch.pixels)
    channels = vae.config.latent_channels
    latents_BCfhw, logvar = moments[:, :channels], moments[:, channels]
    extra = settings.noise * torch.randn(latents_BCfhw.shape, generator=noise)
    copies = vae.decoder(latents_BCfhw + extra).float().contiguous()
    error, weights = copies - batch.pixels, batch.weights
    drift = error[:, :, 1:] - error[:, :, :-1]
    moving = torch.maximum(weights[:, :, 1:], weights[:, :, :-1])
    parts = {
        "absolute": (weights * error.abs()).mean(),
        "square": (weights * error.square()).mean(),
        "motion": (moving * drift.square()).mean(),
        "latent": latents_BCfhw.square().mean(),
        "posterior": (logvar - _LOGVAR).square().mean(),
    }
    loss = sum(getattr(settings, name) * part for name, part in parts.items())
    figures = {name: float(part.detach()) for name, part in parts.items()}
    figures["train_psnr"] = float(-10 * torch.log10(error.detach().square().mean() / 4))
    return loss, figures


@torch.inference_mode()
def set_statistics(vae: Any, frames_NFHW3: np.ndarray) -> None:
    """Write mean and deviation of each latent channel, measured on whole clips (uint8), into the model's buffers."""
    parts = []
    for clip in frames_NFHW3:
        pixels = torch.from_numpy(clip.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        parts.append(vae.encode(pixels.to(vae.dtype)).latent_dist.mode().double().transpose(0, 1).flatten(1))
    values_CN = torch.cat(parts, 1)
    vae.latents_mean.copy_(values_CN.mean(1))
    vae.latents_std.copy_(values_CN.std(1).clamp(min=1e-4))


def save(vae: Any, folder: Path) -> None:
    """Write the model in half precision as a diffusers folder; the one in memory is left as it is."""
    half = torch.nn.Module.to(copy.deepcopy(vae), torch.bfloat16)  # the model's own `to` warns about float32 parts
    half.save_pretrained(folder)


def run(
    job: VideoCodecJob,
    *,
    resume: bool = False,
    finish_only: bool = False,
    report: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Draw what is missing, train, set the statistics, save to `out`/vae and measure what was saved.

    With `finish_only` nothing is trained: the best weights so far of a stopped run are saved and measured.

    Returns the figures on `report_on`, also written to `out`/figures.json; `out`/sheet.png shows six of its faces.
    """
    for window in job.windows:
        if (window.frames - 1) % job.shape.temporal_ratio:
            raise UsageError(
                f"windows of {window.frames} frames", expected=f"a multiple of {job.shape.temporal_ratio}, plus one"
            )
    torch.set_num_threads(job.train.threads)
    folder, shards = Path(job.out), Path(job.shards)
    base, check, test = (open_or_draw(shards, spec, report) for spec in (job.train_on, job.check_on, job.report_on))
    vae = build(job.shape, job.train.seed)
    if job.start_from and not (resume or finish_only):
        restore(vae, Path(job.start_from) / "last.pt", mean=False)

    vae.encoder.requires_grad_(not job.decoder_only)

    if finish_only:
        restore(vae, folder / "best.pt")
        return finish(vae, folder, base, test)

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        batch = draw_windows(base, window_at(job.windows, step), job.loss, job.train.seed, step)
        noise = torch.Generator().manual_seed(1_000_003 * job.train.seed + step)
        with half_precision(job.train):
            return codec_loss(vae, batch, job.loss, noise)

    def validate() -> Figures:
        found = measure_codec(vae, check, job.check_clips).plain()
        # One dB of the mouth counts as much as one of the frame or 0.1 of correlation.
        return found | {"score": found["psnr"] + found["mouth_psnr"] + 10 * found["motion_correlation"]}

    plain = json.loads(json.dumps(asdict(job)))
    train(vae, loss_at, job.train, folder, job=plain, resume=resume, validate=validate, report=report)
    return finish(vae, folder, base, test)


def finish(vae: Any, folder: Path, base: Shard, test: Shard) -> dict[str, float]:
    """Statistics, the saved model, its figures and its contact sheet."""
    from diffusers import AutoencoderKLLTX2Video

    set_statistics(vae, base.frames[:128])
    save(vae, folder / "vae")
    saved = AutoencoderKLLTX2Video.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    figures = measure_codec(saved, test, len(test)).plain()
    figures |= {"parameters": sum(p.numel() for p in saved.parameters())}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    write_sheet(folder / "sheet.png", test.frames[:6], reconstruct(saved, test.frames[:6]))
    return figures
