"""Stage 4: what may change. The lips' outline, grown and held in time, and of it the latents that know of the lips.

The VAE smears: a latent beside the mouth still tells how far the lips are open, and one under the box may not. So the
clip is encoded once more with the lips painted over, and a latent that changes by more than a threshold is regenerated
(JUST-DUB-IT, "latent-aware fine masking").

Legend: F frames, H/W height/width, C channels, f/h/w video latents' grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from datagen.film import encode
from datagen.job import MaskSettings
from datagen.store import Rejected, Store
from datagen.tools import Film, Tools
from justdub.faces.finders import Face
from justdub.faces.masks import enlarge, fill, held, to_latents

KEY = (0, 255, 0)  # what lips are painted with
_SEEN = 0.5  # share of the frames in which there must be a face


def run(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Mask one clip: `.safetensors` holds the latents (`cells_fhw`), `.mp4` the pixels that were painted over."""
    film = tools.read(tools.store("generate").path(number, ".mp4"))
    face = tools.finder.find(film.frames)
    check(face)
    settings = tools.job.mask
    area_FHW = area(face, film, settings)
    codec = tools.pipe.backbone.video_codec
    cells_fhw = (
        fine(codec, film.frames, area_FHW, settings.threshold) if settings.fine else box(area_FHW, tools.geometry)
    )
    facts = {"fine": settings.fine, "seen": round(face.seen, 3), "cells": round(float(cells_fhw.float().mean()), 4)}
    return facts, {
        ".safetensors": save({"cells_fhw": cells_fhw.to(torch.uint8)}),
        ".mp4": encode(white(area_FHW), None, frame_rate=film.rate),
    }


def check(face: Face) -> None:
    """Raises Rejected: no face, or two."""
    if face.faces > 1:
        raise Rejected(f"{face.faces} faces at once")
    if face.seen < _SEEN:
        raise Rejected(f"no face in {1 - face.seen:.0%} of the frames")


def area(face: Face, film: Film, settings: MaskSettings) -> np.ndarray:
    """bool (F, H, W): lips and what moves with them, grown and held."""
    height, width = film.frames.shape[1:3]
    margin = float(np.nanmedian(np.ptp(face.lips_FK2[..., 0], axis=1))) * settings.grow
    area_FHW = fill(enlarge(face.lips_FK2, margin), (width, height)) | fill(face.lower_FK2, (width, height))
    return held(area_FHW, round(settings.hold * film.rate))


def box(area_FHW: np.ndarray, geometry) -> Tensor:
    """bool (f, h, w): every latent under the bounding box of the area of its frames."""
    boxes_FHW = np.zeros_like(area_FHW)
    for frame, mask_HW in enumerate(area_FHW):
        rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
        if len(rows):
            boxes_FHW[frame, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return to_latents(torch.from_numpy(boxes_FHW), geometry) > 0


def change(codec, frames_FHW3: np.ndarray, area_FHW: np.ndarray) -> Tensor:
    """float32 (f, h, w): mean absolute change of the normalised latents when the area is painted over."""
    painted_FHW3 = np.where(area_FHW[..., None], np.uint8(KEY), frames_FHW3)
    return (codec.encode(frames_FHW3) - codec.encode(painted_FHW3)).abs().mean(1)[0].cpu()


def fine(codec, frames_FHW3: np.ndarray, area_FHW: np.ndarray, threshold: float) -> Tensor:
    """bool (f, h, w): latents that change by more than the threshold."""
    return change(codec, frames_FHW3, area_FHW) > threshold


def white(mask_FHW: np.ndarray) -> np.ndarray:
    """A mask as frames."""
    return np.repeat(mask_FHW[..., None], 3, axis=-1).astype(np.uint8) * 255


def cells(store: Store, number: int) -> Tensor:
    """bool (f, h, w) of a clip that was masked."""
    return load(store.path(number, ".safetensors").read_bytes())["cells_fhw"].bool()
