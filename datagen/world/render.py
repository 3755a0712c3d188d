"""Draws batches of talking heads: 96 x 96 by default, any size divisible by 16, on any torch device.

Per clip, once: a background and a head texture (`layers`). Per frame: the texture is looked up under the head's pose
(the part below the mouth stretches as the jaw drops), composited over the background, and small windows with mouth
and eyes are drawn on top (`features`). A CPU works in pieces that fit its cache, an accelerator on all clips at once.

Legend: B clips, F frames, N = B x F, H = W = size, P pixels of a window.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datagen.world import features as ft
from datagen.world.faces import Face, Scene
from datagen.world.layers import REACH, background, head
from datagen.world.motion import Track
from datagen.world.shapes import over, pack, ramp

_TOGETHER = 4  # clips that a CPU draws in one go


@dataclass(frozen=True)
class Drawing:
    """All that one clip's picture depends on.

    Attributes:
        track: pose, lids and gaze at F instants; mouth_FC: viseme parameters (`visemes.CHANNELS`).
        inner, outer, corner, lid: what the style adds to brows, mouth corners and eye opening (`styles.Style`).
    """

    face: Face
    scene: Scene
    track: Track
    mouth_FC: np.ndarray
    inner: float = 0.0
    outer: float = 0.0
    corner: float = 0.0
    lid: float = 0.0

    def mouth(self) -> ft.MouthShape:
        return ft.mouth_shape(self.face, self.mouth_FC, self.corner, self.track.pose_F5)


@dataclass(frozen=True)
class Picture:
    """frames (B, F, H, W, 3) uint8 and, if asked for, lips (B, F, H, W) bool: lips and all they enclose.

    `frames` is a view of four-byte pixels (packing them to three bytes costs as much as drawing the mouths): use
    `reshape`, or `contiguous()` before `view`.
    """

    frames: Tensor
    lips: Tensor | None


def render(
    drawings: Sequence[Drawing], *, size: int = 96, device: str | torch.device = "cpu", lips: bool = False
) -> Picture:
    """Draw a batch; all drawings must have the same number of frames. The bytes of a clip do not depend on its
    batch."""
    if size % 16:
        raise ValueError(f"size {size}: must be divisible by 16")
    device = torch.device(device)
    step = _TOGETHER if device.type == "cpu" else max(1, len(drawings))
    with torch.inference_mode():
        shape = (len(drawings), len(drawings[0].mouth_FC) if drawings else 0, size, size)
        canvas = torch.empty(shape, dtype=torch.int32, device=device)
        masks = torch.empty(shape, dtype=torch.bool, device=device) if lips else None
        for first in range(0, len(drawings), step):
            part = slice(first, first + step)
            _draw(drawings[part], size, canvas[part], None if masks is None else masks[part])
        frames = canvas.view(torch.uint8).reshape(*shape, 4)[..., :3]
    return Picture(frames, masks)


def _draw(drawings: Sequence[Drawing], size: int, canvas: Tensor, lips: Tensor | None) -> None:
    """Draw into `canvas` (B, F, H, W) packed and `lips` (B, F, H, W)."""
    device = canvas.device
    faces, scenes = [d.face for d in drawings], [d.scene for d in drawings]
    count = len(drawings[0].mouth_FC)
    pose = np.stack([d.track.pose_F5 for d in drawings])
    yaw_B = _tensor(np.array([d.track.pose_F5[:, 4].mean() for d in drawings]), device)
    below, texture = background(faces, scenes, size, device), head(faces, scenes, yaw_B, size)
    aim, bits = _aim(pose, _stretch(drawings), texture.shape[-1], size, device)
    clips, step = (1, max(1, ft.CACHED // (size * size))) if device.type == "cpu" else (len(drawings), count)
    for clip, first in itertools.product(range(0, len(drawings), clips), range(0, count, step)):
        one, part = slice(clip, clip + clips), slice(first, first + step)
        canvas[one, part] = _move_heads(below[one], texture[one], aim[:, one, part], bits)
    flat = canvas.reshape(len(drawings) * count, size * size)
    _eyes(flat, drawings, pose, size)
    mask = _mouths(flat, drawings, pose, size, lips is not None)
    _occluders(flat, drawings, size)
    if lips is not None:
        lips.copy_(mask.reshape(canvas.shape))


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _stretch(drawings: Sequence[Drawing]) -> np.ndarray:
    """(B, F): how much the face below the mouth lengthens as the jaw drops (1 = closed)."""
    return np.stack([1 + 0.24 * d.mouth_FC[:, 0] for d in drawings])


def _aim(
    pose_BF5: np.ndarray, stretch_BF: np.ndarray, side: int, size: int, device: torch.device
) -> tuple[Tensor, int]:
    """Where each pixel looks in a head texture of `side`, as a column part plus a row part.

    Returns (6, B, F, size) int16: u from x, u from y, v from x, v from y, and the two parts of v below the mouth,
    where the texture is read more slowly so that the chin moves down; and the number of fractional bits. 16-bit fixed
    point is three times faster than float32 on a CPU, and the same on every device.
    """
    density = side / (2 * REACH)
    bits = int(np.log2(32767 / (150 * density)))
    cx, cy, roll, scale, _ = np.moveaxis(pose_BF5, -1, 0)
    cosine, sine = (part[..., None] / scale[..., None] * density for part in (np.cos(roll), np.sin(roll)))
    at = (np.arange(size) + 0.5) * 96 / size
    dx, dy = at - cx[..., None], at - cy[..., None]
    origin = REACH * density - 0.5  # samples lie at multiples of 1 / density; a look-up takes the nearest
    slow, mouth = 1 / stretch_BF[..., None], (ft.MOUTH_AT[1] + REACH) * density - 0.5
    v_x, v_y = -sine * dx, cosine * dy + origin
    parts = np.stack((cosine * dx + origin, sine * dy, v_x, v_y, v_x * slow, v_y * slow + mouth * (1 - slow)))
    return torch.from_numpy(np.rint(parts * 2**bits).astype(np.int16)).to(device), bits


def _move_heads(below_BHW: Tensor, texture_BTT: Tensor, aim: Tensor, bits: int) -> Tensor:
    """The head textures as each frame sees them (`_aim`), over the backgrounds: (B, F, H, W) packed."""
    device, side = below_BHW.device, texture_BTT.shape[-1]
    u, v, low = (x[:, :, None, :] + y[:, :, :, None] for x, y in (aim[0:2], aim[2:4], aim[4:6]))
    limit = (side << bits) - 1
    u = u.clamp_(0, limit).bitwise_right_shift_(bits).to(torch.int32)
    v = torch.minimum(v, low, out=v).clamp_(0, limit).bitwise_right_shift_(bits)
    index = v.to(torch.int32).mul_(side).add_(u)
    if len(texture_BTT) > 1:
        index += (torch.arange(len(texture_BTT), device=device, dtype=torch.int32) * side * side).reshape(-1, 1, 1, 1)
    top = texture_BTT.reshape(-1).index_select(0, index.reshape(-1)).reshape(index.shape)
    return over(top, below_BHW[:, None])


def _windows(centre_N2: np.ndarray, units: tuple[int, int], size: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Top left pixels (N, 2) of windows around points, kept inside the frame, and the windows' (h, w) in pixels."""
    w, h = (min(size, -(-side * size // 96)) for side in units)
    corner = np.floor(centre_N2 * size / 96 - np.array((w, h)) / 2 + 0.5)
    return np.clip(corner, 0, np.array((size - w, size - h))), (h, w)


def _place(
    flat_NP: Tensor, corner_N2: np.ndarray, shape: tuple[int, int], size: int, pixels: Tensor | None = None
) -> Tensor:
    """Indices (N, h * w) of windows in flattened frames; with `pixels`, composite them there."""
    h, w = shape
    start = torch.from_numpy((corner_N2[:, 1] * size + corner_N2[:, 0]).astype(np.int64)).to(flat_NP.device)
    rows = torch.arange(h, device=flat_NP.device) * size
    index = (start[:, None, None] + rows[:, None] + torch.arange(w, device=flat_NP.device)).reshape(len(start), -1)
    if pixels is not None:
        flat_NP.scatter_(1, index, over(pixels.reshape(index.shape), flat_NP.gather(1, index)))
    return index


def _stripes(corner_N2, centre_N2, pose_N5, shape, size, edges_of, colours_NE4, device) -> tuple[Tensor, Tensor]:
    """Windows whose columns are stripes: `edges_of(u)` gives the edges' heights (`features`)."""
    pixel = 96 / size
    u, level = ft.columns(corner_N2[:, 0], centre_N2, pose_N5, shape[1], pixel)
    edges = np.stack([level(v) for v in edges_of(u)], 1) / pixel - corner_N2[:, 1, None, None]
    return ft.draw_stripes(_tensor(edges, device), _tensor(colours_NE4, device), shape[0])


def _mouths(flat_NP: Tensor, drawings: Sequence[Drawing], pose_BF5: np.ndarray, size: int, lips: bool) -> Tensor | None:
    pose, count = pose_BF5.reshape(-1, 5), pose_BF5.shape[1]
    geometry = np.concatenate([d.mouth().geometry_FG for d in drawings])
    colours = np.stack([ft.mouth_colours(np.array(d.face.skin), np.array(d.face.lip)) for d in drawings]).repeat(
        count, 0
    )
    centre = ft.feature_centre(pose, *ft.MOUTH_AT)
    corner, shape = _windows(centre + np.array((0, ft.MOUTH_DROP)), ft.MOUTH_WINDOW, size)
    pixels, whole = _stripes(
        corner, centre, pose, shape, size, lambda u: ft.mouth_edges(u, geometry), colours, flat_NP.device
    )
    index = _place(flat_NP, corner, shape, size, pixels)
    if not lips:
        return None
    return torch.zeros_like(flat_NP, dtype=torch.bool).scatter_(1, index, whole.reshape(index.shape) > 0.5)


def _eyes(flat_NP: Tensor, drawings: Sequence[Drawing], pose_BF5: np.ndarray, size: int) -> None:
    pose, count = pose_BF5.reshape(-1, 5), pose_BF5.shape[1]

    def each(value) -> np.ndarray:
        return np.repeat([value(d) for d in drawings], count, 0)

    gaze = np.concatenate([d.track.gaze_F2 for d in drawings])
    eye = {
        "lid": np.concatenate([d.track.lids_F * (1 + d.lid) for d in drawings]), "gaze_x": gaze[:, 0],
        "gaze_y": gaze[:, 1],
        "width": each(lambda d: d.face.eye_width) * (1 - 0.12 * np.abs(pose[:, 4])),
        "height": each(lambda d: d.face.eye_height),
        "brow_width": each(lambda d: d.face.brow_width), "brow_thick": each(lambda d: d.face.brow_thick),
        "lashes": each(lambda d: d.face.lashes), "inner": each(lambda d: d.inner), "outer": each(lambda d: d.outer),
    }  # fmt: skip
    gap = each(lambda d: d.face.eye_gap)
    colours = each(lambda d: ft.eye_colours(*(np.array(c) for c in (d.face.skin, d.face.eye, d.face.hair))))
    # Both eyes of a frame at once: windows of left eyes first, then those of right ones.
    both = {name: np.tile(value, 2) for name, value in eye.items()} | {"side": np.repeat((-1.0, 1.0), len(pose))}
    centre = np.concatenate([ft.feature_centre(pose, side * gap, ft.EYES_AT) for side in (-1.0, 1.0)])
    corner, shape = _windows(centre - np.array((0, ft.EYE_RISE)), ft.EYE_WINDOW, size)
    pixels, _ = _stripes(
        corner, centre, np.tile(pose, (2, 1)), shape, size, lambda u: ft.eye_edges(u, both), np.tile(colours, (2, 1,
        1)),
        flat_NP.device,
    )  # fmt: skip
    for half in (slice(0, len(pose)), slice(len(pose), None)):
        _place(flat_NP, corner[half], shape, size, pixels[half])


def _occluders(flat_NP: Tensor, drawings: Sequence[Drawing], size: int) -> None:
    """A hand that rises beside the face, or a pole that passes: drawn once, then moved by whole pixels."""
    device, count, pixel = flat_NP.device, len(drawings[0].mouth_FC), 96 / size
    for number, drawing in enumerate(drawings):
        scene = drawing.scene
        if scene.occluder == "none":
            continue
        frames = flat_NP[number * count : (number + 1) * count]
        share = np.linspace(0, 1, count)[:, None]
        if scene.occluder == "hand":  # up, stay a while, down again
            share = np.clip(1.6 * np.sin(np.pi * share), 0, 1)
        place = np.array(scene.occluder_from) * (1 - share) + np.array(scene.occluder_to) * share
        height, width = (52, 44) if scene.occluder == "hand" else (2 * 96, 70)
        h, w = height * size // 96, width * size // 96
        y = ((torch.arange(h, device=device) + 0.5) * pixel - height / 2).reshape(-1, 1)
        x = ((torch.arange(w, device=device) + 0.5) * pixel - width / 2).reshape(1, -1)
        c, s = float(np.cos(scene.occluder_angle)), float(np.sin(scene.occluder_angle))
        u, v = c * x + s * y, c * y - s * x
        if scene.occluder == "hand":
            cover, colour = ft.draw_hand(u, v + 4.0, pixel), [0.93 * part for part in drawing.face.skin]
        else:
            cover, colour = ramp(4.5 - u.abs(), pixel), (0.25, 0.22, 0.20)
        cover[:, 0], cover[:, -1], cover[0], cover[-1] = 0.0, 0.0, 0.0, 0.0
        texture = pack(*(cover * part for part in colour), cover)
        start = np.floor(place / pixel - np.array((w, h)) / 2 + 0.5).astype(np.int64)
        column, row = (
            torch.from_numpy(np.clip(np.arange(size) - start[:, k : k + 1], 0, last)).to(device)
            for k, last in ((0, w - 1), (1, h - 1))
        )
        top = texture.reshape(-1).take(row[:, :, None] * w + column[:, None, :])
        frames.copy_(over(top.reshape(count, -1), frames))
