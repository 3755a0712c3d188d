"""Masks drawn over frames: what would be regenerated in clips, as one picture, a row of frames per clip.

White: the area of the lips and what moves with them. Blue: around the latents under its box. Orange: the latents that
know of the lips. The picture shows the surroundings of the mouth, cut on the latents' grid.

Legend: F frames, H/W height/width, f/h/w video latents' grid, h/w in a picture's name: of the picture.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

from datagen import mask
from datagen.store import Rejected
from datagen.tools import Film, Tools
from datagen.world.finder import WorldFinder
from justdub.dubbing.size import working_size
from justdub.errors import BadInputError, UsageError
from justdub.faces.masks import to_pixels
from justdub.tokens import Geometry

WORLD = "world:"
_SIDE, _GAP, _COLOURS = 208, 4, 128  # pixels of a frame in the picture and between frames; of the palette
_AROUND = 2.0  # side of what is shown, in sides of the masks
_TINT, _LINE, _AREA = (255, 140, 0), (40, 90, 255), (255, 255, 255)
_OPAQUE, _WIDE = 0.45, 2  # of tints; pixels of lines


def draw(tools: Tools, clips: list[str], columns: int, progress: Callable[[str, int, int], None]) -> bytes:
    """A PNG.

    Args:
        clips: files, in which the job's finder finds faces; or "world:N", a clip of the drawn world.
        columns: frames of each.

    Raises:
        BadInputError: no clip, no face in it, or two.
    """
    from PIL import Image

    rows = []
    for done, name in enumerate(clips, 1):
        rows.append(_row(tools, name, columns))
        progress("masks", done, len(clips))
    picture_hw3 = np.concatenate(rows)[_GAP:, _GAP:]
    file = io.BytesIO()
    Image.fromarray(picture_hw3).quantize(_COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _row(tools: Tools, name: str, columns: int) -> np.ndarray:
    drawn = name.startswith(WORLD)
    film = _drawn(tools, name) if drawn else _read(tools, Path(name))
    face = (WorldFinder() if drawn else tools.finder).find(film.frames)
    try:
        mask.check(face)
    except Rejected as error:
        raise BadInputError(f"{name}: {error}", expected="one face") from error
    settings, geometry = tools.job.mask, tools.geometry
    area_FHW = mask.area(face, film, settings)
    fine_fhw = mask.fine(tools.pipe.backbone.video_codec, film.frames, area_FHW, settings.threshold)
    box_fhw = mask.box(area_FHW, geometry)
    top, left, side = window(fine_fhw | box_fhw, geometry)
    fine_FHW, box_FHW = (to_pixels(cells_fhw, geometry).numpy() for cells_fhw in (fine_fhw, box_fhw))
    chosen = np.linspace(0, len(film.frames) - 1, columns + 2).round().astype(int)[1:-1]
    cut = (slice(top, top + side), slice(left, left + side))
    parts = [over(film.frames[i][cut], *(m[i][cut] for m in (fine_FHW, box_FHW, area_FHW))) for i in chosen]
    return np.concatenate([np.pad(part, ((_GAP, 0), (_GAP, 0), (0, 0)), constant_values=255) for part in parts], axis=1)


def window(cells_fhw: Tensor, geometry: Geometry) -> tuple[int, int, int]:
    """The square around all masked latents that is shown: its top, left and side in pixels, on the latents' grid."""
    shown_hw = cells_fhw.any(0)
    spans = [np.flatnonzero(shown_hw.any(axis).numpy()) for axis in (1, 0)]
    longest = max((int(span[-1] - span[0]) + 1 for span in spans if len(span)), default=1)
    side = min(*shown_hw.shape, round(longest * _AROUND))
    places = []
    for span, size in zip(spans, shown_hw.shape, strict=True):
        middle = (span[0] + span[-1] + 1) / 2 if len(span) else size / 2
        places.append(int(np.clip(round(middle - side / 2), 0, size - side)))
    return tuple(value * geometry.pixels_per_latent for value in (*places, side))


def over(frame_HW3: np.ndarray, fine_HW: np.ndarray, box_HW: np.ndarray, area_HW: np.ndarray) -> np.ndarray:
    """A square frame in the picture's size with three masks over it: uint8 (h, w, 3)."""
    from PIL import Image

    picture_hw3 = np.asarray(Image.fromarray(frame_HW3).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)).copy()
    fine_hw, box_hw, area_hw = (
        np.asarray(Image.fromarray(mask_HW).resize((_SIDE, _SIDE), Image.Resampling.NEAREST))
        for mask_HW in (fine_HW, box_HW, area_HW)
    )
    tinted_hw3 = picture_hw3 * (1 - _OPAQUE) + np.array(_TINT) * _OPAQUE
    picture_hw3 = np.where(fine_hw[..., None], tinted_hw3, picture_hw3).astype(np.uint8)
    picture_hw3[outline(box_hw)] = _LINE
    picture_hw3[outline(area_hw)] = _AREA
    return picture_hw3


def outline(mask_hw: np.ndarray) -> np.ndarray:
    """The pixels of a mask that are near its edge."""
    from scipy.ndimage import binary_erosion

    return mask_hw & ~binary_erosion(mask_hw, iterations=_WIDE, border_value=1)


def _drawn(tools: Tools, name: str) -> Film:
    from datagen.world import World

    number = name.removeprefix(WORLD)
    if not number.isdecimal():
        raise UsageError(f"clip {name!r}", expected=f"a file, or {WORLD}NUMBER")
    world = World(frame_rate=tools.job.generate.frame_rate)
    clip = world.batch([int(number)], tools.job.script.split)[0]
    return Film(clip.frames, clip.samples, world.frame_rate)


def _read(tools: Tools, path: Path) -> Film:
    """A file as the stages would see it: at the working size, on the model's grid of frames."""
    from justdub.media import probe

    info, geometry = probe(path), tools.geometry
    size = tuple(tools.job.generate.size)
    if not size:
        width, height = tools.pipe.backbone.card.size
        size = working_size(info.display_aspect, width * height, geometry.pixels_per_token)
    frames = min(info.video.frames, tools.job.generate.frames)
    return tools.read(path, 1 + (frames - 1) // geometry.frames_per_latent * geometry.frames_per_latent, size)
