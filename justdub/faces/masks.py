"""Masks of pixels as masks of latents: grouped in time and space exactly as the video VAE groups pixels.

Letters: F/H/W pixel frames/height/width, f/h/w the latent grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from justdub.sequence import Geometry


def to_latents(mask_FHW: Tensor, geometry: Geometry) -> Tensor:
    """The largest value of every group of pixels that one latent stands for.

    In time the groups are frame 0 alone and then `frames_per_latent` frames each (the VAE is causal); a plain grouping
    from frame 0 would be up to 7 frames off. The maximum keeps lips that are thinner than a latent.

    Args:
        mask_FHW: any dtype, F on the k n + 1 grid, H and W divisible by `pixels_per_latent`.

    Returns:
        (f, h, w) float32.
    """
    frames, pixels = geometry.frames_per_latent, geometry.pixels_per_latent
    count, height, width = mask_FHW.shape
    if (count - 1) % frames or height % pixels or width % pixels:
        raise ValueError(f"a mask of {count} frames of {width}x{height} is off the grid of the video VAE")
    mask_Fhw = torch.nn.functional.max_pool2d(mask_FHW.float()[:, None], pixels)[:, 0]
    rest = mask_Fhw[1:].unflatten(0, (-1, frames)).amax(1)
    return torch.cat([mask_Fhw[:1], rest])


def to_tokens(mask_BFHW: Tensor, patch: int) -> Tensor:
    """A mask of latents as a mask of video tokens, which are `patch` x `patch` latents: (B, f, h / p, w / p)."""
    return mask_BFHW if patch == 1 else torch.nn.functional.max_pool2d(mask_BFHW, patch)
