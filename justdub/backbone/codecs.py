"""Pixels <-> video latents, samples <-> audio latents. One place and one precision, for training and inference.

Latents leave here normalised (zero mean, unit variance per channel) in float32, batch 1; what is called a latent
anywhere else in the program is this.

Letters: B batch, C channels, F/H/W frames/height/width (latents: lower-case grid of the checkpoint), S samples,
T audio latent steps, M mel bins.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Log-mel front end of LTX-2's audio VAE: 64 slaney bins, magnitude, n_fft = window = 1024, reflected half-window
# padding on both sides, floor 1e-5 before the natural logarithm.
N_FFT = 1024
LOG_FLOOR = 1e-5
# Tiles of decoding: (pixels a side, frames) and the step from one to the next; what overlaps is blended.
TILE, TILE_STEP = (512, 80), (448, 56)
WINDOW = 16  # frames that are converted at a time: a copy of a whole clip in float32 is gigabytes


class VideoCodec:
    """Frames <-> normalised latents of an `AutoencoderKLLTX2Video`.

    Encoding is never tiled: what a model is trained on and what it is given are the same latents, on every machine.

    Attributes:
        tiles: decode tile by tile, in less memory; seams are blended, so pixels differ a little from a whole decode.
    """

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.tiles = False
        vae.enable_tiling(TILE[0], TILE[0], TILE[1], TILE_STEP[0], TILE_STEP[0], TILE_STEP[1])
        self._tile(False)

    @property
    def spatial_ratio(self) -> int:
        return int(self.vae.spatial_compression_ratio)

    @property
    def temporal_ratio(self) -> int:
        return int(self.vae.temporal_compression_ratio)

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @torch.no_grad()
    def encode(self, frames_FHW3: np.ndarray | Tensor, downscale: int = 1) -> Tensor:
        """Encode one clip: uint8 RGB, F on the 8k + 1 grid, H and W divisible by the spatial ratio.

        Args:
            downscale: first average so many pixels a side (references of lower resolution).

        Returns:
            (1, C, f, h, w) float32, the mean of the posterior.
        """
        frames = torch.as_tensor(frames_FHW3)
        if downscale > 1:
            frames = shrink(frames, downscale)
        count, height, width, _ = frames.shape
        if (count - 1) % self.temporal_ratio or height % self.spatial_ratio or width % self.spatial_ratio:
            raise ValueError(f"{count} frames of {width}x{height} are off the grid of the video VAE")
        pixels_BCFHW = frames.permute(3, 0, 1, 2)[None].to(self.vae.device, self.vae.dtype).div_(127.5).sub_(1)
        return self.normalise(self.vae.encode(pixels_BCFHW).latent_dist.mode().float())

    @torch.no_grad()
    def decode(self, latents_BCFHW: Tensor) -> Tensor:
        """Decode one clip: (1, C, f, h, w) -> (F, H, W, 3) uint8 on the CPU."""
        latents = self.denormalise(latents_BCFHW.to(self.vae.device)).to(self.vae.dtype)
        # A decoder with timestep conditioning is asked for a clean decode: timestep 0 and no added noise.
        step = None
        if self.vae.config.timestep_conditioning:
            step = torch.zeros(1, device=latents.device, dtype=latents.dtype)
        self._tile(self.tiles)
        try:
            pixels_3FHW = self.vae.decode(latents, step, return_dict=False)[0][0]
        finally:
            self._tile(False)
        frames_FHW3 = torch.empty((*pixels_3FHW.shape[1:], 3), dtype=torch.uint8)
        for start in range(0, len(frames_FHW3), WINDOW):
            some = pixels_3FHW[:, start : start + WINDOW].float().add_(1).mul_(127.5).round_().clamp_(0, 255)
            frames_FHW3[start : start + WINDOW] = some.to(torch.uint8).permute(1, 2, 3, 0)
        return frames_FHW3

    def normalise(self, latents_BCFHW: Tensor) -> Tensor:
        """The VAE's own latents, float32, as the program's."""
        mean, std = self._statistics()
        return (latents_BCFHW - mean) * self.vae.config.scaling_factor / std

    def denormalise(self, latents_BCFHW: Tensor) -> Tensor:
        """Inverse of `normalise`."""
        mean, std = self._statistics()
        return latents_BCFHW * std / self.vae.config.scaling_factor + mean

    def _tile(self, on: bool) -> None:
        # Either switch would tile the encoder too, so both are off except while decoding.
        self.vae.use_tiling = self.vae.use_framewise_decoding = on

    def _statistics(self) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1, 1)
        return self.vae.latents_mean.float().view(shape), self.vae.latents_std.float().view(shape)


def shrink(frames_FHW3: Tensor, factor: int) -> Tensor:
    """Average `factor` x `factor` pixels into one: uint8 in, uint8 out."""
    parts = []
    for some_FHW3 in frames_FHW3.split(WINDOW):
        small_F3HW = torch.nn.functional.avg_pool2d(some_FHW3.permute(0, 3, 1, 2).float(), factor)
        parts.append(small_F3HW.round_().to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(parts)


class AudioCodec:
    """Samples <-> log-mel <-> normalised latents of an `AutoencoderKLLTX2Audio`, and the vocoder's way back.

    Everything is float32, whatever the transformer runs in.
    """

    def __init__(self, audio_vae: Any, vocoder: Any) -> None:
        self.vae, self.vocoder = audio_vae, vocoder

    @property
    def sample_rate(self) -> int:
        """Rate that `encode` wants, in Hz."""
        return int(self.vae.config.sample_rate)

    @property
    def channels(self) -> int:
        """Channels that `encode` wants."""
        return int(self.vae.config.in_channels)

    @property
    def output_rate(self) -> int:
        """Rate of what `decode` returns, in Hz."""
        return int(self.vocoder.config.output_sampling_rate)

    @property
    def output_channels(self) -> int:
        return int(self.vocoder.config.out_channels)

    def log_mel(self, samples_CS: Tensor) -> Tensor:
        """(C, S) float32 at `sample_rate` -> (1, C, 1 + S // hop, M) natural-log mel magnitudes."""
        config = self.vae.config
        window = torch.hann_window(N_FFT, device=samples_CS.device)
        spectrum_CKT = torch.stft(
            samples_CS,
            N_FFT,
            config.mel_hop_length,
            window=window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        ).abs()
        filters_KM = _mel_filters(config.sample_rate, config.mel_bins).to(samples_CS.device)
        return (spectrum_CKT.transpose(1, 2) @ filters_KM).clamp(min=LOG_FLOOR).log()[None]

    @torch.no_grad()
    def encode(self, samples_CS: np.ndarray | Tensor) -> Tensor:
        """Encode one clip's sound.

        Args:
            samples_CS: (`channels`, S) float32 in [-1, 1] at `sample_rate`; at least half a window (32 ms) long.

        Returns:
            (1, C, T, M) float32, the mean of the posterior.
        """
        samples = torch.as_tensor(samples_CS, dtype=torch.float32, device=self.vae.device)
        latents_BCTM = self.vae.encode(self.log_mel(samples)).latent_dist.mode().float()
        mean_CM, std_CM = self._statistics(latents_BCTM)
        return (latents_BCTM - mean_CM) / std_CM

    @torch.no_grad()
    def decode(self, latents_BCTM: Tensor) -> Tensor:
        """Decode one clip's sound: (1, C, T, M) -> (channels, S) float32 at `output_rate`, on the CPU."""
        latents_BCTM = latents_BCTM.to(self.vae.device, torch.float32)
        mean_CM, std_CM = self._statistics(latents_BCTM)
        mel_BCTM = self.vae.decode(latents_BCTM * std_CM + mean_CM, return_dict=False)[0]
        return self.vocoder(mel_BCTM)[0].float().clamp(-1, 1).cpu()

    def _statistics(self, latents_BCTM: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation as (C, 1, M): the checkpoint stores them per token channel, channels outside mel bins."""
        channels, bins = latents_BCTM.shape[1], latents_BCTM.shape[3]
        mean, std = self.vae.latents_mean.float(), self.vae.latents_std.float()
        return mean.view(channels, 1, bins), std.view(channels, 1, bins)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # kept for all later calls, those under autograd among them
def _mel_filters(sample_rate: int, bins: int) -> Tensor:
    """(N_FFT // 2 + 1, M) slaney-scale, slaney-normalised triangles from 0 Hz to the Nyquist frequency."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=bins,
        min_frequency=0.0,
        max_frequency=sample_rate / 2,
        sampling_rate=sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters).float()
