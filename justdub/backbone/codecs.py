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


class VideoCodec:
    """Frames <-> normalised latents of an `AutoencoderKLLTX2Video`."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae

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
            frames_F3HW = torch.nn.functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), downscale)
            frames = frames_F3HW.round_().to(torch.uint8).permute(0, 2, 3, 1)
        count, height, width, _ = frames.shape
        if (count - 1) % self.temporal_ratio or height % self.spatial_ratio or width % self.spatial_ratio:
            raise ValueError(f"{count} frames of {width}x{height} are off the grid of the video VAE")
        pixels_BCFHW = frames.permute(3, 0, 1, 2)[None].to(self.vae.device, self.vae.dtype) / 127.5 - 1
        latents = self.vae.encode(pixels_BCFHW).latent_dist.mode().float()
        mean, std = self._statistics()
        return (latents - mean) * self.vae.config.scaling_factor / std

    @torch.no_grad()
    def decode(self, latents_BCFHW: Tensor) -> Tensor:
        """Decode one clip: (1, C, f, h, w) -> (F, H, W, 3) uint8 on the CPU."""
        mean, std = self._statistics()
        latents = latents_BCFHW.to(mean.device) * std / self.vae.config.scaling_factor + mean
        # A decoder with timestep conditioning is asked for a clean decode: timestep 0 and no added noise.
        step = (
            torch.zeros(1, device=mean.device, dtype=self.vae.dtype) if self.vae.config.timestep_conditioning else None
        )
        pixels_BCFHW = self.vae.decode(latents.to(self.vae.dtype), step, return_dict=False)[0]
        # In place and frame-last only at the end: the decoded clip is the largest tensor of a dub.
        pixels = pixels_BCFHW[0].float().add_(1).mul_(127.5).round_().clamp_(0, 255)
        return pixels.to(torch.uint8).permute(1, 2, 3, 0).cpu()

    def _statistics(self) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1, 1)
        return self.vae.latents_mean.float().view(shape), self.vae.latents_std.float().view(shape)


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
