"""The small `LTX2Vocoder` of the drawn world: log-mel spectrograms, as its audio VAE decodes them, -> samples.

Mono, 160 samples per mel frame. Spectrograms are `AudioCodec.log_mel`'s, whose frame t is centred on sample 160 t;
samples 160 t .. 160 t + 159 are the vocoder's for that frame. A clip of S samples has 1 + S // 160 frames, so the
vocoder returns up to 160 samples more, which `speak` cuts off.

Legend: B batch, N clips, S samples, T mel frames, M mel bins, K frequency bins.
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

from datagen.world.clip import World
from datagen.world.pretrain.audio_codec import log_mel
from datagen.world.pretrain.data import Shard, ShardSpec, open_or_draw
from datagen.world.pretrain.training import Figures, TrainSettings, half_precision, restore, train
from datagen.world.pretrain.video_codec import save
from justdub.backbone.codecs import N_FFT, AudioCodec, _mel_filters
from justdub.errors import UsageError
from justdub.evaluation.world.judges import WEIGHTS, load_net
from justdub.evaluation.world.scores import word_accuracy
from justdub.evaluation.world.words import WordJudge, words_of

HOP = 160
_BINS, _RATE = 64, 16000
_WINDOWS = (1024, 512, 256)  # samples, of the loss's spectrograms; a quarter of it from one to the next
_FAINT = 1e-3  # magnitudes below are alike; about what rounding to 16 bits leaves in the longest window
_SILENCE = -6.0  # nat: about the mean of the world's spectrograms, which the first layer starts by taking off
_TOGETHER = 8  # clips decoded at once


@dataclass(frozen=True)
class VocoderShapeSettings:
    """Arguments of `LTX2Vocoder`. Channels halve at every step up; each step has one residual block per kernel, with
    two layers per dilation."""

    channels: int = 256
    up: tuple[int, ...] = (10, 8, 2)
    up_kernels: tuple[int, ...] = (16, 16, 4)
    kernels: tuple[int, ...] = (7,)
    dilations: tuple[int, ...] = (1, 3)


@dataclass(frozen=True)
class VocoderLossSettings:
    """Weights: `convergence`, norm of the error over norm of the magnitudes; `magnitude`, the absolute error of
    log magnitudes, nat; `mel`, that of log-mel, nat. The first two are means over three resolutions."""

    convergence: float = 1.0
    magnitude: float = 1.0
    mel: float = 2.0


@dataclass(frozen=True)
class VocoderJob:
    """As `AudioCodecJob`. `audio_codec`: folder of the trained audio VAE.

    A step sees `batch` windows of `frames` mel frames, the share `decoded` of them as the VAE decodes them (from the
    first `decode_clips` clips, done once and kept in `out`), the others true.
    """

    out: str
    shards: str
    audio_codec: str
    train_on: ShardSpec = field(default_factory=lambda: ShardSpec(sound=True))
    check_on: ShardSpec = field(default_factory=lambda: ShardSpec(clips=16, split="library", sound=True))
    report_on: ShardSpec = field(default_factory=lambda: ShardSpec(clips=48, split="test", sound=True))
    decode_clips: int = 3000
    decoded: float = 0.75
    shape: VocoderShapeSettings = field(default_factory=VocoderShapeSettings)
    loss: VocoderLossSettings = field(default_factory=VocoderLossSettings)
    batch: int = 4
    frames: int = 64
    train: TrainSettings = field(default_factory=TrainSettings)


@dataclass(frozen=True)
class VocoderFigures:
    """mel_rmse: of the log-mel of the samples against the true clips', nat; distance: the sum of `stft_parts`."""

    mel_rmse: float
    distance: float


def build(shape: VocoderShapeSettings, seed: int = 0) -> Any:
    """The model with random weights."""
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    if int(np.prod(shape.up)) != HOP:
        raise UsageError(f"shape.up {shape.up}", expected=f"factors with the product {HOP}")
    torch.manual_seed(seed)
    vocoder = LTX2Vocoder(
        in_channels=_BINS,
        hidden_channels=shape.channels,
        out_channels=1,
        upsample_kernel_sizes=list(shape.up_kernels),
        upsample_factors=list(shape.up),
        resnet_kernel_sizes=list(shape.kernels),
        resnet_dilations=[list(shape.dilations) for _ in shape.kernels],
        output_sampling_rate=_RATE,
    )
    with torch.no_grad():
        vocoder.conv_in.bias.sub_(_SILENCE * vocoder.conv_in.weight.sum((1, 2)))
    return vocoder


@torch.no_grad()
def decoded_mels(vae: Any, shard: Shard, count: int, path: Path) -> np.ndarray:
    """float16 (N, T, M), nat: the first `count` clips through the audio VAE and back; kept in `path`."""
    if not path.exists():
        parts = []
        for first in range(0, count, _TOGETHER):
            with torch.autocast("cpu", torch.bfloat16):
                mel_B1TM = decode(vae, shard.samples[first : min(count, first + _TOGETHER)])
            parts.append(mel_B1TM[:, 0].half().numpy())
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(parts))
        partial.replace(path)
    return np.load(path, mmap_mode="r")


@dataclass(frozen=True)
class VocoderBatch:
    """mel (B, 1, T, M), nat, and the samples it stands for, (B, 160 T), -1..1."""

    mel: Tensor
    samples: Tensor


def draw_windows(
    vae: Any, shard: Shard, decoded_NTM: np.ndarray, share: float, batch: int, frames: int, seed: int, step: int
) -> VocoderBatch:
    """Windows of random clips, the `share` of them decoded; the same for the same seed and step."""
    rng = np.random.default_rng([seed, step])
    mels, sounds = [], []
    for _ in range(batch):
        decoded = rng.random() < share
        clip = rng.integers(len(decoded_NTM) if decoded else len(shard))
        whole = shard.samples[clip]
        start = rng.integers(len(whole) // HOP - frames + 1)
        mel_TM = torch.from_numpy(decoded_NTM[clip].astype(np.float32)) if decoded else log_mel(vae, whole[None])[0, 0]
        mels.append(mel_TM[None, start : start + frames])
        sounds.append(torch.from_numpy(whole[HOP * start : HOP * (start + frames)].astype(np.float32) / 32767))
    return VocoderBatch(torch.stack(mels), torch.stack(sounds))


def magnitudes(samples_BS: Tensor, window: int) -> Tensor:
    """(B, K, T) magnitudes at a quarter of the window from one to the next, not below `_FAINT`."""
    spectrum_BKT = torch.stft(
        samples_BS, window, window // 4, window=torch.hann_window(window), pad_mode="reflect", return_complex=True
    )
    power_BKT = spectrum_BKT.real.square() + spectrum_BKT.imag.square()  # abs() has no gradient at zero
    return power_BKT.clamp(min=_FAINT**2).sqrt()


def stft_parts(copy_BS: Tensor, true_BS: Tensor) -> tuple[Tensor, Tensor]:
    """Means over the resolutions: wrong share of all magnitudes (norm over norm), absolute log error in nat."""
    convergence, magnitude = [], []
    for window in _WINDOWS:
        copy_BKT, true_BKT = magnitudes(copy_BS, window), magnitudes(true_BS, window)
        convergence.append((copy_BKT - true_BKT).norm() / true_BKT.norm())  # of all together: some windows are silent
        magnitude.append((copy_BKT.log() - true_BKT.log()).abs().mean())
    return torch.stack(convergence).mean(), torch.stack(magnitude).mean()


def vocoder_loss(codec: AudioCodec, batch: VocoderBatch, settings: VocoderLossSettings) -> tuple[Tensor, Figures]:
    """Loss of one batch, and its parts as numbers; layers in the precision of the autocast, spectra in float32."""
    copy_BS = codec.vocoder(batch.mel)[:, 0].float()
    with torch.autocast("cpu", enabled=False):
        convergence, magnitude = stft_parts(copy_BS, batch.samples)
        mel = (codec.log_mel(copy_BS) - codec.log_mel(batch.samples)).abs().mean()
    parts = {"convergence": convergence, "magnitude": magnitude, "mel": mel}
    loss = sum(getattr(settings, name) * part for name, part in parts.items())
    return loss, {name: float(part.detach()) for name, part in parts.items()}


@torch.no_grad()
def speak(vocoder: Any, mel_B1TM: Tensor) -> Tensor:
    """Samples (B, 160 (T - 1)), -1..1."""
    return vocoder(mel_B1TM)[:, 0, :-HOP].float().clamp(-1, 1)


@torch.no_grad()
def griffin_lim(mel_B1TM: Tensor, iterations: int = 60, seed: int = 0) -> Tensor:
    """The classical way, to compare with: samples (B, 160 (T - 1)) whose spectrogram comes near the given one.

    Magnitudes that are not negative and give the mel (multiplicative updates for the least squares), then phases
    that agree with each other, from random ones (Griffin and Lim 1984).
    """
    mel_BMT = mel_B1TM[:, 0].float().exp().transpose(1, 2)
    filters_MK = _mel_filters(_RATE, _BINS).T
    magnitude_BKT = torch.full((len(mel_BMT), N_FFT // 2 + 1, mel_BMT.shape[2]), 1e-2)
    goal_BKT = filters_MK.T @ mel_BMT
    for _ in range(100):
        magnitude_BKT *= goal_BKT / (filters_MK.T @ (filters_MK @ magnitude_BKT)).clamp(min=1e-9)
    window = torch.hann_window(N_FFT)
    turns_BKT = torch.rand(magnitude_BKT.shape, generator=torch.Generator().manual_seed(seed))
    phase_BKT = torch.polar(torch.ones_like(turns_BKT), 2 * torch.pi * turns_BKT)
    for _ in range(iterations):
        samples_BS = torch.istft(magnitude_BKT * phase_BKT, N_FFT, HOP, window=window)
        again_BKT = torch.stft(samples_BS, N_FFT, HOP, window=window, pad_mode="reflect", return_complex=True)
        phase_BKT = again_BKT / again_BKT.abs().clamp(min=1e-9)
    return torch.istft(magnitude_BKT * phase_BKT, N_FFT, HOP, window=window).clamp(-1, 1)


@torch.no_grad()
def measure(codec: AudioCodec, copy_BS: Tensor, true_BS: Tensor) -> VocoderFigures:
    """Figures of whole clips' copies."""
    error = (codec.log_mel(copy_BS) - codec.log_mel(true_BS)).double()
    return VocoderFigures(float(error.square().mean().sqrt()), float(sum(stft_parts(copy_BS, true_BS))))


def run(
    job: VocoderJob,
    *,
    resume: bool = False,
    finish_only: bool = False,
    report: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Draw and decode what is missing, train, save to `out`/vocoder and measure what was saved.

    Returns the figures on `report_on`, also written to `out`/figures.json. `finish_only` trains no more.
    """
    from diffusers import AutoencoderKLLTX2Audio
    from diffusers.pipelines.ltx2 import LTX2Vocoder

    specs = (job.train_on, job.check_on, job.report_on)
    if not all(spec.sound for spec in specs):
        raise UsageError("clips without sound", expected="sound: true for train_on, check_on and report_on")
    if not 0 < job.decode_clips <= job.train_on.clips:
        raise UsageError(f"decode_clips {job.decode_clips}", expected=f"1 to train_on.clips, {job.train_on.clips}")
    torch.set_num_threads(job.train.threads)
    folder = Path(job.out)
    base, check, test = (open_or_draw(Path(job.shards), spec, report) for spec in specs)
    vae = AutoencoderKLLTX2Audio.from_pretrained(job.audio_codec, torch_dtype=torch.float32).eval()
    vocoder = build(job.shape, job.train.seed)
    codec = AudioCodec(vae, vocoder)

    def loss_at(step: int) -> tuple[Tensor, Figures]:
        batch = draw_windows(vae, base, decoded_NTM, job.decoded, job.batch, job.frames, job.train.seed, step)
        with half_precision(job.train):
            return vocoder_loss(codec, batch, job.loss)

    def validate() -> Figures:
        with half_precision(job.train):
            copy_BS = speak(vocoder, check_B1TM)
        found = asdict(measure(codec, copy_BS, as_samples(check)))
        return found | {"score": -found["mel_rmse"] - found["distance"]}

    if finish_only:
        restore(vocoder, folder / "best.pt")
    else:
        spec = job.train_on
        name = f"decoded-{spec.split}-seed{spec.seed}-{spec.first}+{job.decode_clips}.npy"
        decoded_NTM = decoded_mels(vae, base, job.decode_clips, folder / name)
        check_B1TM = decode(vae, check.samples)
        plain = json.loads(json.dumps(asdict(job)))
        train(vocoder, loss_at, job.train, folder, job=plain, resume=resume, validate=validate, report=report)
    save(vocoder, folder / "vocoder")
    saved = LTX2Vocoder.from_pretrained(folder / "vocoder", torch_dtype=torch.float32).eval()
    figures = report_figures(AudioCodec(vae, saved), test)
    figures |= {"parameters": sum(p.numel() for p in saved.parameters())}
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def report_figures(codec: AudioCodec, shard: Shard) -> dict[str, float]:
    """Figures of the vocoder on decoded and on true spectrograms, of Griffin and Lim's way on decoded ones, and the
    words heard in these, in decoded spectrograms themselves and in the true clips."""
    true_BS = as_samples(shard)
    mel_B1TM, decoded_B1TM = log_mel(codec.vae, shard.samples), decode(codec.vae, shard.samples)
    copies = {
        "vocoder": speak(codec.vocoder, decoded_B1TM),
        "vocoder_true_mel": speak(codec.vocoder, mel_B1TM),
        "griffin_lim": griffin_lim(decoded_B1TM),
    }
    figures = {}
    for way, copy_BS in copies.items():
        found = asdict(measure(codec, copy_BS, true_BS)) | {
            "words": words_heard(codec.log_mel(copy_BS).transpose(0, 1), shard.spec)
        }
        figures |= {f"{way}_{name}": value for name, value in found.items()}
    return figures | {
        "decoded_words": words_heard(decoded_B1TM, shard.spec),
        "true_words": words_heard(mel_B1TM, shard.spec),
    }


def words_heard(mel_B1TM: Tensor, spec: ShardSpec) -> float:
    """Word accuracy of spectrograms of a shard's clips by the word judge, 0..1, mean of clips."""
    lexicon = json.loads((WEIGHTS / "lexicon.json").read_text(encoding="utf-8"))
    judge = WordJudge(load_net(WEIGHTS, "words"), lexicon)
    world = World(seed=spec.seed)
    wanted = [words_of(world.plan(spec.first + place, spec.split).text) for place in range(spec.clips)]
    heard = [judge.read(mel_TM.numpy()).words for mel_TM in mel_B1TM[:, 0]]
    return float(np.mean([word_accuracy(one, other) for one, other in zip(heard, wanted, strict=True)]))


def as_samples(shard: Shard) -> Tensor:
    """(N, S) float32, -1..1."""
    return torch.from_numpy(shard.samples.astype(np.float32) / 32767)


@torch.no_grad()
def decode(vae: Any, samples_BS: np.ndarray) -> Tensor:
    """int16 clips -> (B, 1, T, M) log-mel through the audio VAE and back, nat."""
    return vae.decode(vae.encode(log_mel(vae, samples_BS)).latent_dist.mode()).sample
