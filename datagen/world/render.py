"""Draws batches of talking heads: 96 x 96 by default, any size divisible by 16, on any torch device.

Per clip, once: a background and a head texture (`layers`). Per frame: the texture is looked up under the head's pose (the
part below the mouth stretches as the jaw drops), composited over the background, and small windows with mouth and eyes are
drawn on top (`features`). On a CPU clips go through the frame stage one by one, which keeps the work in cache.

Legend: B clips, F frames, N = B x F, H = W = size, P pixels of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datagen.world import features as ft
from datagen.world.faces import Face, Scene
from datagen.world.layers import REACH, background, head
from datagen.world.motion import Track
from datagen.world.shapes import over, pack, ramp, unpack


_CACHED = 65_000  # pixels of a CPU's working set: seven frames at 96 x 96


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
    """frames (B, F, H, W, 3) uint8 and, if asked for, lips (B, F, H, W) bool: lips and all they enclose."""

    frames: Tensor
    lips: Tensor | None


def render(
    drawings: Sequence[Drawing], *, size: int = 96, device: str | torch.device = "cpu", lips: bool = False
) -> Picture:
    """Draw a batch; all drawings must have the same number of frames. The bytes of a clip do not depend on its batch."""
    if size % 16:
        raise ValueError(f"size {size}: must be divisible by 16")
    device = torch.device(device)
    step = 1 if device.type == "cpu" else len(drawings)
    with torch.inference_mode():
        parts = [_draw(drawings[i : i + step], size, device, lips) for i in range(0, len(drawings), step)]
    frames = torch.cat([frames for frames, _ in parts]) if len(parts) > 1 else parts[0][0]
    return Picture(frames, torch.cat([mask for _, mask in parts]) if lips else None)


def _draw(drawings: Sequence[Drawing], size: int, device: torch.device, lips: bool) -> tuple[Tensor, Tensor | None]:
    faces, scenes = [d.face for d in drawings], [d.scene for d in drawings]
    count = len(drawings[0].mouth_FC)
    pose = np.stack([d.track.pose_F5 for d in drawings])
    yaw_B = _tensor(np.array([d.track.pose_F5[:, 4].mean() for d in drawings]), device)
    below, texture, stretch = background(faces, scenes, size, device), head(faces, scenes, yaw_B, size), _stretch(drawings)
    step = count if device.type != "cpu" else max(1, _CACHED // (size * size))
    canvas = torch.empty(len(drawings), count, size, size, dtype=torch.int32, device=device)
    for first in range(0, count, step):
        part = slice(first, first + step)
        canvas[:, part] = _move_heads(below, texture, pose[:, part], stretch[:, part], size)
    flat = canvas.reshape(len(drawings) * count, size * size)
    _eyes(flat, drawings, pose, size)
    mask = _mouths(flat, drawings, pose, size, lips)
    _occluders(flat, drawings, size)
    frames = unpack(canvas)
    return frames, None if mask is None else mask.reshape(canvas.shape)


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device)


def _stretch(drawings: Sequence[Drawing]) -> np.ndarray:
    """(B, F): how much the face below the mouth lengthens as the jaw drops (1 = closed)."""
    return np.stack([1 + 0.24 * d.mouth_FC[:, 0] for d in drawings])


def _move_heads(
    below_BHW: Tensor, texture_BTT: Tensor, pose_BF5: np.ndarray, stretch_BF: np.ndarray, size: int
) -> Tensor:
    """The head textures under each frame's pose, over the backgrounds: (B, F, H, W) packed."""
    device, side = below_BHW.device, texture_BTT.shape[-1]
    density = side / (2 * REACH)
    cx, cy, roll, scale, _ = np.moveaxis(pose_BF5, -1, 0)
    cos, sin = np.cos(roll) / scale * density, np.sin(roll) / scale * density
    at = (np.arange(size) + 0.5) * 96 / size
    dx, dy = at - cx[..., None], at - cy[..., None]
    origin = REACH * density - 0.5  # look-ups round to the nearest sample; samples lie at multiples of 1 / density
    u_x, u_y = _tensor(cos[..., None] * dx + origin, device), _tensor(sin[..., None] * dy, device)
    v_x, v_y = _tensor(-sin[..., None] * dx, device), _tensor(cos[..., None] * dy + origin, device)
    u = (u_x[:, :, None, :] + u_y[:, :, :, None]).clamp_(0, side - 1).to(torch.int32)
    v = v_x[:, :, None, :] + v_y[:, :, :, None]
    # Below the mouth the texture is read more slowly: the chin moves down.
    mouth = (ft.MOUTH_AT[1] + REACH) * density - 0.5
    slow = _tensor(1 / stretch_BF, device)[:, :, None]
    v_low = (v_x * slow)[:, :, None, :] + (v_y * slow + mouth * (1 - slow))[:, :, :, None]
    index = torch.minimum(v, v_low, out=v).clamp_(0, side - 1).to(torch.int32).mul_(side).add_(u)
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


def _grid(corner, centre, pose, shape, size, device):
    roll = np.stack((np.cos(pose[:, 2]), np.sin(pose[:, 2])), 1)
    return ft.window_grid(
        _tensor(corner, device),
        _tensor(centre, device),
        _tensor(roll, device),
        _tensor(pose[:, 3], device),
        shape,
        96 / size,
    )


def _stripes(corner_N2, centre_N2, pose_N5, shape, size, edges_of, colours_NE4, device) -> tuple[Tensor, Tensor]:
    """Windows whose columns are stripes: `edges_of(u)` gives the edges' heights (`features`)."""
    pixel = 96 / size
    u, level = ft.columns(corner_N2[:, 0], centre_N2, pose_N5, shape[1], pixel)
    edges = np.stack([level(v) for v in edges_of(u)], 1) / pixel - corner_N2[:, 1, None, None]
    return ft.draw_stripes(_tensor(edges, device), _tensor(colours_NE4, device), shape[0])


def _mouths(flat_NP: Tensor, drawings: Sequence[Drawing], pose_BF5: np.ndarray, size: int, lips: bool) -> Tensor | None:
    pose, count = pose_BF5.reshape(-1, 5), pose_BF5.shape[1]
    geometry = np.concatenate([d.mouth().geometry_FG for d in drawings])
    colours = np.stack([ft.mouth_colours(np.array(d.face.skin), np.array(d.face.lip)) for d in drawings]).repeat(count, 0)
    centre = ft.feature_centre(pose, *ft.MOUTH_AT)
    corner, shape = _windows(centre + (0, ft.MOUTH_DROP), ft.MOUTH_WINDOW, size)
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
        "lid": np.concatenate([d.track.lids_F * (1 + d.lid) for d in drawings]), "gaze_x": gaze[:, 0], "gaze_y": gaze[:, 1],
        "width": each(lambda d: d.face.eye_width) * (1 - 0.12 * np.abs(pose[:, 4])), "height": each(lambda d: d.face.eye_height),
        "brow_width": each(lambda d: d.face.brow_width), "brow_thick": each(lambda d: d.face.brow_thick),
        "lashes": each(lambda d: d.face.lashes), "inner": each(lambda d: d.inner), "outer": each(lambda d: d.outer),
    }  # fmt: skip
    gap = each(lambda d: d.face.eye_gap)
    colours = each(lambda d: ft.eye_colours(*(np.array(c) for c in (d.face.skin, d.face.eye, d.face.hair))))
    for side in (-1.0, 1.0):
        centre = ft.feature_centre(pose, side * gap, ft.EYES_AT)
        corner, shape = _windows(centre - (0, ft.EYE_RISE), ft.EYE_WINDOW, size)
        one = eye | {"side": np.full(len(pose), side)}
        pixels, _ = _stripes(
            corner, centre, pose, shape, size, lambda u, one=one: ft.eye_edges(u, one), colours, flat_NP.device
        )
        _place(flat_NP, corner, shape, size, pixels)


def _occluders(flat_NP: Tensor, drawings: Sequence[Drawing], size: int) -> None:
    """A hand that rises beside the face, or a pole that passes: only in the clips that have one."""
    device, count = flat_NP.device, len(drawings[0].mouth_FC)
    for index, drawing in enumerate(drawings):
        scene = drawing.scene
        if scene.occluder == "none":
            continue
        frames = flat_NP[index * count : (index + 1) * count]
        share = np.linspace(0, 1, count)[:, None]
        if scene.occluder == "hand":  # up, stay a while, down again
            share = np.clip(1.6 * np.sin(np.pi * share), 0, 1)
        place = np.array(scene.occluder_from) * (1 - share) + np.array(scene.occluder_to) * share
        pose = np.zeros((count, 5))
        pose[:, 2], pose[:, 3] = scene.occluder_angle, 1.0
        colour = torch.tensor(drawing.face.skin, device=device) * 0.93
        corner, window = np.zeros((count, 2)), (size, size)
        if scene.occluder == "hand":
            corner, window = _windows(place - (0, 4), (40, 50), size)
        x, y = _grid(corner, place, pose, window, size, device)
        if scene.occluder == "hand":
            cover = ft.draw_hand(x, y, 96 / size)
        else:
            cover, colour = ramp(4.5 - x.abs(), 96 / size), torch.tensor((0.25, 0.22, 0.2), device=device)
        red, green, blue = (cover * colour[k] for k in range(3))
        _place(frames, corner, window, size, pack(red, green, blue, cover))
