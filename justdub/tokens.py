"""Tokens of the two streams: latents to rows of a sequence and back, and where each row lies in time and space.

Letters: B batch, C channels, F/H/W latent frames/height/width, T audio latent steps, M latent mel bins, N tokens.
Source: LTX-2 patchifiers.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from justdub.errors import UsageError

# Gap between the end of a negative-time audio reference and time zero: one audio latent (LTX-2 Dub-It pipeline).
NEGATIVE_POSITION_GAP = 0.04


@dataclass(frozen=True)
class Geometry:
    """What one latent covers, read from the checkpoint's configs. Times in seconds, space in pixels.

    `patch`: latents a side that make one video token (1 in all published LTX-2 checkpoints).
    """

    frames_per_latent: int = 8
    pixels_per_latent: int = 32
    mels_per_latent: int = 4
    sample_rate: int = 16000
    hop_length: int = 160
    causal_offset: int = 1
    patch: int = 1

    @classmethod
    def from_config(cls, config: Any) -> Geometry:
        """From the config of an LTX2VideoTransformer3DModel."""
        frames, height, width = config.vae_scale_factors
        if height != width:
            raise UsageError(f"vae_scale_factors are {config.vae_scale_factors}", expected="square spatial factors")
        if config.patch_size_t != 1:
            raise UsageError("a transformer whose tokens span several latent frames", expected="patch_size_t 1")
        return cls(
            frames_per_latent=frames,
            pixels_per_latent=height,
            mels_per_latent=config.audio_scale_factor,
            sample_rate=config.audio_sampling_rate,
            hop_length=config.audio_hop_length,
            causal_offset=config.causal_offset,
            patch=config.patch_size,
        )

    @property
    def pixels_per_token(self) -> int:
        return self.pixels_per_latent * self.patch

    def latent_frames(self, frames: int) -> int:
        """Latent frames of `frames` pixel frames; the first latent covers one frame, every other eight (8k + 1)."""
        return 1 + -(-(frames - 1) // self.frames_per_latent)

    def padded_frames(self, frames: int) -> int:
        """Smallest count on the 8k + 1 grid that holds `frames`."""
        return 1 + (self.latent_frames(frames) - 1) * self.frames_per_latent


def patchify_video(latents_BCFHW: Tensor, patch: int = 1) -> Tensor:
    """(B, C, F, H, W) -> (B, F*H/p*W/p, C*p*p), time slowest; channels outside the patch's rows and columns."""
    if patch == 1:
        return latents_BCFHW.flatten(2).transpose(1, 2)
    split = latents_BCFHW.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))  # B C F h p w p
    return split.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)


def unpatchify_video(tokens_BNC: Tensor, grid: tuple[int, int, int], patch: int = 1) -> Tensor:
    """Inverse of `patchify_video` for a grid of tokens (F, H/p, W/p)."""
    if patch == 1:
        return tokens_BNC.transpose(1, 2).unflatten(2, grid)
    split = tokens_BNC.unflatten(1, grid).unflatten(4, (-1, patch, patch))  # B F h w C p p
    return split.permute(0, 4, 1, 2, 5, 3, 6).flatten(5).flatten(3, 4)


def patchify_audio(latents_BCTM: Tensor) -> Tensor:
    """(B, C, T, M) -> (B, T, C*M): one token per time step, channels outside mel bins."""
    return latents_BCTM.transpose(1, 2).flatten(2)


def unpatchify_audio(tokens_BTC: Tensor, mel_bins: int) -> Tensor:
    """Inverse of `patchify_audio`."""
    return tokens_BTC.unflatten(2, (-1, mel_bins)).transpose(1, 2)


def video_positions(
    grid: tuple[int, int, int], frame_rate: Fraction | float, geometry: Geometry, *, downscale: int = 1
) -> Tensor:
    """Intervals of video tokens: seconds, y pixels, x pixels.

    Latent frame 0 covers the pixel frame [0, 1), latent k >= 1 the frames [8k - 7, 8k + 1), clipped at 0.

    Args:
        grid: (F, H, W) in tokens.
        downscale: how many target pixels one pixel of this grid stands for (references at lower resolution).

    Returns:
        (3, N, 2) float32.
    """
    starts = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    start_3N = torch.stack([s.flatten() for s in starts])
    bounds_3N2 = torch.stack([start_3N, start_3N + 1], dim=-1)
    pixels = geometry.pixels_per_token * downscale
    scale_311 = torch.tensor([geometry.frames_per_latent, pixels, pixels], dtype=torch.float32)[:, None, None]
    bounds_3N2 = bounds_3N2 * scale_311
    frames_N2 = (bounds_3N2[0] + geometry.causal_offset - geometry.frames_per_latent).clamp(min=0)
    bounds_3N2[0] = frames_N2 / float(frame_rate)
    return bounds_3N2


def audio_positions(steps: int, geometry: Geometry, *, negative: bool = False) -> Tensor:
    """Intervals of audio tokens in seconds: latent i spans mel frames max(4i - 3, 0) to 4i + 1, 10 ms each.

    Args:
        steps: number of audio latents T.
        negative: shift the whole block before time zero, one 0.04 s gap away from it.

    Returns:
        (1, T, 2) float32.
    """
    index_T = torch.arange(steps, dtype=torch.float32)
    bounds_T2 = torch.stack([index_T, index_T + 1], dim=-1) * geometry.mels_per_latent
    mels_T2 = (bounds_T2 + geometry.causal_offset - geometry.mels_per_latent).clamp(min=0)
    seconds_T2 = mels_T2 * geometry.hop_length / geometry.sample_rate
    if negative:
        seconds_T2 = seconds_T2 - seconds_T2[-1, 1] - NEGATIVE_POSITION_GAP
    return seconds_T2[None]


def token_grid(latents_BCFHW: Tensor, patch: int) -> tuple[int, int, int]:
    """(F, H/p, W/p) of latents."""
    frames, height, width = latents_BCFHW.shape[2:]
    return frames, height // patch, width // patch
