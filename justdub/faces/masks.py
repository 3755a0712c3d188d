"""Masks: outlines filled, and masks of pixels as masks of latents, grouped exactly as the video VAE groups pixels.

Letters: F/H/W pixel frames/height/width, f/h/w the latent grid, K corners of an outline, 2 x and y in pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from justdub.tokens import Geometry


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


def to_pixels(mask_fhw: Tensor, geometry: Geometry) -> Tensor:
    """Every pixel that its latent stands for: the other way round, (F, H, W) of the mask's type."""
    frames, pixels = geometry.frames_per_latent, geometry.pixels_per_latent
    times_F = torch.cat((torch.zeros(1, dtype=torch.long), torch.arange(1, len(mask_fhw)).repeat_interleave(frames)))
    return mask_fhw[times_F].repeat_interleave(pixels, 1).repeat_interleave(pixels, 2)


def enlarge(outline_FK2: np.ndarray, margin: np.ndarray | float) -> np.ndarray:
    """Outlines with every corner moved away from the middle by `margin` pixels (one, or one per frame)."""
    out_FK2 = outline_FK2 - outline_FK2.mean(1, keepdims=True)
    length_FK1 = np.maximum(np.linalg.norm(out_FK2, axis=-1, keepdims=True), 1e-6)
    return outline_FK2 + out_FK2 / length_FK1 * np.broadcast_to(margin, len(outline_FK2))[:, None, None]


def fill(polygons_FK2: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """bool FHW, True inside the polygons; size: width and height."""
    from PIL import Image, ImageDraw

    masks = []
    for polygon in polygons_FK2:
        picture = Image.new("1", size)
        if np.isfinite(polygon).all():
            ImageDraw.Draw(picture).polygon([tuple(corner) for corner in polygon.tolist()], fill=1)
        masks.append(np.asarray(picture))
    return np.stack(masks)


def held(mask_FHW: np.ndarray, frames: int) -> np.ndarray:
    """True from `frames` frames before a pixel is masked to as many after: what moves stays covered."""
    found_FHW = mask_FHW.copy()
    for step in range(1, min(frames, len(mask_FHW) - 1) + 1):
        found_FHW[step:] |= mask_FHW[:-step]
        found_FHW[:-step] |= mask_FHW[step:]
    return found_FHW
