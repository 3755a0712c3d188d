"""The parts of a face that move: mouth, eyes and brows, drawn in small windows that follow the head.

Every column of such a window is a stack of stripes (skin, upper lip, teeth, dark, tongue, lower lip, skin), so a
window is described by the heights of its edges per column, and drawn by adding up one ramp per edge times the change
of colour there: exact box-filtered anti-aliasing in y; in x edges are averaged over `SUB` positions. A head's roll
shears a window (columns stay vertical). Edges are computed here in numpy (float64), so the truth handed out is what
is drawn.

N = clips x frames; E edges, w columns, h rows; units of 1/96 frame; face coordinates as in `faces`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datagen.world.faces import Face
from datagen.world.shapes import ellipse, pack

MOUTH_AT = (0.0, 19.5)  # face coordinates of the mouth's centre, eyes at (+-eye_gap, EYES_AT)
EYES_AT = -8.5
MOUTH_WINDOW = (40, 32)  # width, height in units
MOUTH_DROP = 3.5  # the window's centre lies this far below the mouth's
EYE_WINDOW = (20, 24)
EYE_RISE = 3.0  # the window's centre lies this far above the eye's
YAW_SHIFT = 4.5  # units by which features move sideways at yaw 1
JAW = 13.0  # units of lip opening at jaw 1

CACHED = 65_000  # numbers in a CPU's working set (a quarter of a megabyte)
SUB = (-1 / 3, 0.0, 1 / 3)  # positions within a column

GEOMETRY = ("half", "inner_half", "up", "down", "upper", "lower", "corner", "teeth", "tongue")


@dataclass(frozen=True)
class MouthShape:
    """Mouth geometry in units of the face (before the head's scale): (F, len(GEOMETRY)), and what judges want to know.

    Attributes:
        opening_F, width_F: gap between the lips and distance of the corners, pixels of a 96-pixel frame (scale
        included). box_F4: x0, y0, x1, y1 of the lips' outer bounds as a fraction of the frame.
    """

    geometry_FG: np.ndarray
    opening_F: np.ndarray
    width_F: np.ndarray
    box_F4: np.ndarray


def feature_centre(pose_N5: np.ndarray, x: float | np.ndarray, y: float) -> np.ndarray:
    """Where the face point (x, y) of a feature lies in the frame, units (N, 2); features slide with yaw."""
    cx, cy, roll, scale, yaw = pose_N5.T
    u, v = (x * (1 - 0.12 * np.abs(yaw)) + YAW_SHIFT * yaw) * scale, y * scale
    return np.stack((cx + np.cos(roll) * u - np.sin(roll) * v, cy + np.sin(roll) * u + np.cos(roll) * v), 1)


def mouth_shape(face: Face, mouth_FC: np.ndarray, corner: float, pose_F5: np.ndarray) -> MouthShape:
    """Lips from viseme parameters (`visemes.CHANNELS`) and a style's mouth corners (1 = a broad smile)."""
    jaw, width, rounding, press, teeth, tongue = mouth_FC.T
    roll, scale, yaw = pose_F5[:, 2], pose_F5[:, 3], pose_F5[:, 4]
    half = face.mouth_half_width * (1 + 0.09 * width - 0.30 * rounding + 0.05 * corner - 0.05 * jaw)
    half = half * (1 - 0.12 * np.abs(yaw))
    gap = JAW * jaw * (1 - 0.15 * rounding)
    thin = (1 - 0.5 * press) * (1 - 0.12 * jaw)
    upper, lower = face.lip_upper * thin * (1 + 0.3 * rounding), face.lip_lower * thin * (1 + 0.25 * rounding)
    corners, inner = np.full_like(half, 2.6 * corner), half * (0.86 - 0.16 * rounding)
    geometry = np.stack((half, inner, 0.24 * gap, 0.76 * gap, upper, lower, corners, 3.6 * teeth, tongue), 1)
    s = np.linspace(-1, 1, 33)
    arch, line = np.sqrt(1 - s * s), np.tan(roll)[:, None] * (np.cos(roll) * half)[:, None] * s
    bend = line - corners[:, None] * s * s
    tall = 1 / np.cos(roll)[:, None]
    top = bend - tall * (0.24 * gap + upper)[:, None] * arch
    bottom = bend + tall * (0.76 * gap + lower)[:, None] * arch
    centre, reach = feature_centre(pose_F5, *MOUTH_AT), half * scale * np.cos(roll)
    low, high = centre[:, 1] + scale * top.min(1), centre[:, 1] + scale * bottom.max(1)
    box = np.stack((centre[:, 0] - reach, low, centre[:, 0] + reach, high), 1) / 96
    return MouthShape(geometry, gap * scale, 2 * half * scale, box)


def columns(left_N: np.ndarray, centre_N2: np.ndarray, pose_N5: np.ndarray, width: int, pixel: float):
    """Face coordinate u (N, w, 3) of the columns of windows, and `level`, which turns heights v into frame units.

    `level(v)` -> (N, w) in units of the frame: the feature's centre, its sheared line and v, averaged over sub-columns.
    """
    roll, scale = pose_N5[:, 2, None, None], pose_N5[:, 3, None, None]
    x = (left_N[:, None, None] + np.arange(width)[:, None] + 0.5 + np.array(SUB)) * pixel - centre_N2[:, 0, None, None]
    line, stretch = centre_N2[:, 1, None] + (np.tan(roll) * x).mean(-1), (scale / np.cos(roll))[..., 0]
    return x / (scale * np.cos(roll)), lambda v: line + stretch * v.mean(-1)


def mouth_edges(u: np.ndarray, geometry_NG: np.ndarray) -> list[np.ndarray]:
    """Heights (N, w, 3) of the six edges between skin | upper lip | teeth | dark | tongue | lower lip | skin."""
    half, inner_half, up, down, upper, lower, corner, teeth, tongue = (g[:, None, None] for g in geometry_NG.T)
    s = u / half
    s2 = np.minimum(s * s, 1.0)
    arch, bend = np.sqrt(1.0 - s2), -corner * s2
    top = bend - (up + upper) * np.maximum(arch - 0.10 * np.clip(1.0 - 6.0 * np.abs(s), 0.0, 1.0), 0.0)
    bottom = bend + (down + lower) * arch
    t = np.abs(u / inner_half)
    t2 = np.minimum(t * t, 1.0)
    inner = np.sqrt(1.0 - t2)
    slit = 0.42 * np.clip((1.0 - t) * 6.0, 0.0, 1.0)  # closed lips still show a dark line
    roof, floor = np.maximum(bend - up * inner - slit, top), np.minimum(bend + down * inner + slit, bottom)
    gap = (up + down) * inner
    bite = np.minimum(roof + np.minimum(teeth * inner, 0.42 * gap) * np.clip(gap * 0.7 - 0.6, 0.0, 1.0), floor)
    lick = np.maximum(floor - tongue * 0.36 * (up + down) * np.maximum(1.0 - 1.6 * t2, 0.0), bite)
    return [top, roof, bite, lick, floor, bottom]


def mouth_colours(skin: np.ndarray, lip: np.ndarray) -> np.ndarray:
    """(E, 4): the change of (R, G, B, A) at each of the six edges."""
    stripes = [lip * 0.80, (0.96, 0.95, 0.92), skin * 0.10 + (0.10, 0.01, 0.02), (0.80, 0.32, 0.34), lip]
    return _changes(stripes)


def _changes(stripes: list) -> np.ndarray:
    levels = np.array([(0, 0, 0, 0), *((*stripe, 1.0) for stripe in stripes), (0, 0, 0, 0)], np.float64)
    return np.diff(levels, axis=0)


def eye_edges(u: np.ndarray, eye: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Heights (N, w, 3) of the eleven edges of an eye with its brow.

    From above: brow's top and bottom; lashes | white | iris | pupil | iris | white | skin (7 edges); a glint's top,
    bottom. `eye` holds (N,): side (-1 left, 1 right), width, height, lid (0..1.4), gaze_x, gaze_y, inner and outer
    (raise of the brow), brow_width, brow_thick, lashes.
    """
    n = {name: value[:, None, None] for name, value in eye.items()}
    arch, lid = 1.0 - np.minimum((u / n["width"]) ** 2, 1.0), n["height"] * n["lid"]
    upper, lower = -lid * arch, 0.55 * lid * arch
    lash = upper - (0.85 + 0.45 * n["lashes"]) * np.clip(n["width"] + 0.6 - np.abs(u), 0.0, 1.0)
    x, middle = u - 1.6 * n["gaze_x"], 0.7 * n["gaze_y"] - 0.3 * lid
    radius = 0.62 * n["height"]
    iris, pupil = (np.sqrt(np.maximum((share * radius) ** 2 - x * x, 0.0)) for share in (1.0, 0.45))
    edge = [np.clip(middle + part, upper, lower) for part in (-iris, -pupil, pupil, iris)]
    spot = 0.75 * np.clip(1.25 - np.abs(x - 0.9), 0.0, 1.0)
    glint = [np.clip(middle - 1.0 + part, edge[0], edge[3]) for part in (-spot, spot)]
    out = u * n["side"] / n["brow_width"]  # -1 at the nose .. 1 at the temple
    lift = n["inner"] * (0.5 - 0.5 * out) + n["outer"] * (0.5 + 0.5 * out)
    brow = 1.6 * out * out - n["height"] - 4.6 - lift
    thick = n["brow_thick"] * (1.15 - 0.4 * out) * np.clip(n["brow_width"] - np.abs(u) + 0.5, 0.0, 1.0)
    under = np.minimum(brow + thick, lash)
    return [np.minimum(brow - thick, under), under, lash, upper, *edge, lower, *glint]


def eye_colours(skin: np.ndarray, iris: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """(E, 4): the change of (R, G, B, A) at each of the eleven edges."""
    white, black = np.full(3, 0.97), np.full(3, 0.06)
    eye = _changes([black + 0.12 * skin, white, iris, black, iris, white])
    glint = np.append(white - black, 0.0)
    return np.concatenate((_changes([hair * 0.75]), eye, [glint, -glint]))


def draw_stripes(edges_NEw: Tensor, colours_NE4: Tensor, height: int) -> tuple[Tensor, Tensor]:
    """Packed window pixels (N, h, w) and their coverage, from edges in pixels below the window's top.

    A pixel row r covers r .. r + 1; an edge at height e changes it by clamp(r + 1 - e, 0, 1).
    """
    count, edges, width = edges_NEw.shape
    row = torch.arange(1, height + 1, device=edges_NEw.device, dtype=torch.float32).reshape(1, 1, -1, 1)
    pixels = torch.empty(count, height, width, dtype=torch.int32, device=edges_NEw.device)
    cover = torch.empty(count, height, width, device=edges_NEw.device)
    colour_N4E = colours_NE4.mT.contiguous()
    step = count if edges_NEw.is_cuda else max(1, 2 * CACHED // (edges * height * width))
    for first in range(0, count, step):
        part = slice(first, first + step)
        ramp = (row - edges_NEw[part, :, None, :]).clamp_(0.0, 1.0)
        total = torch.bmm(colour_N4E[part], ramp.flatten(2)).clamp_(0.0, 1.0).unflatten(2, (height, width))
        red, green, blue, alpha = total.unbind(1)
        cover[part] = alpha
        pixels[part] = pack(red, green, blue, alpha)
    return pixels, cover


def draw_hand(x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Coverage of a hand seen from its back, fingers up, centred on the palm; x, y in units (h, w)."""
    cover = ellipse(x, y, 8.5, 10.0, pixel)
    for dx, dy, length, slope in (
        (-6.3, -12.0, 7.0, -0.16),
        (-2.2, -15.0, 8.5, -0.05),
        (2.1, -15.0, 8.5, 0.05),
        (6.2, -12.5, 7.5, 0.16),
    ):
        cover = torch.maximum(cover, ellipse(x - dx + slope * (y - dy), y - dy, 2.4, length, pixel))
    return torch.maximum(cover, ellipse(x - 9.5 - 0.5 * (y + 1), y + 1.0, 2.6, 6.5, pixel))
