"""The parts of a face that move: mouth, eyes and brows, drawn in small windows that follow the head.

N = clips x frames; units of 1/96 frame; face coordinates as in `faces`. All geometry is computed here in numpy (float64), so
that the truth handed out (`MouthShape`, boxes) is exactly what is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datagen.world.faces import Face
from datagen.world.shapes import ellipse, ramp, stack

MOUTH_AT = (0.0, 19.5)  # face coordinates of the mouth's centre, eyes at (+-eye_gap, EYES_AT)
EYES_AT = -8.5
MOUTH_WINDOW = (42, 34)  # width, height in units
MOUTH_DROP = 3.5  # the window's centre lies this far below the mouth's
EYE_WINDOW = (22, 24)
EYE_RISE = 3.0  # the window's centre lies this far above the eye's
YAW_SHIFT = 4.5  # units by which features move sideways at yaw 1
JAW = 13.0  # units of lip opening at jaw 1

GEOMETRY = ("half", "inner_half", "up", "down", "upper", "lower", "corner", "teeth", "tongue")


@dataclass(frozen=True)
class MouthShape:
    """Mouth geometry in units of the face (before the head's scale): (F, len(GEOMETRY)), and what judges want to know.

    Attributes:
        opening_F, width_F: gap between the lips and distance of the corners, pixels of a 96-pixel frame (scale included).
        box_F4: x0, y0, x1, y1 of the lips' outer bounds as a fraction of the frame.
    """

    geometry_FG: np.ndarray
    opening_F: np.ndarray
    width_F: np.ndarray
    box_F4: np.ndarray


def feature_centre(pose_F5: np.ndarray, x: float | np.ndarray, y: float) -> np.ndarray:
    """Where the face point (x, y) of a feature lies in the frame, units (F, 2); features slide with yaw."""
    cx, cy, roll, scale, yaw = pose_F5.T
    u, v = (x * (1 - 0.12 * np.abs(yaw)) + YAW_SHIFT * yaw) * scale, y * scale
    return np.stack((cx + np.cos(roll) * u - np.sin(roll) * v, cy + np.sin(roll) * u + np.cos(roll) * v), 1)


def mouth_shape(face: Face, mouth_FC: np.ndarray, corner: float, pose_F5: np.ndarray) -> MouthShape:
    """Lips from viseme parameters (`visemes.CHANNELS`) and a style's mouth corners."""
    jaw, width, rounding, press, teeth, tongue = mouth_FC.T
    scale, yaw = pose_F5[:, 3], pose_F5[:, 4]
    half = face.mouth_half_width * (1 + 0.09 * width - 0.30 * rounding + 0.05 * corner - 0.05 * jaw) * (1 - 0.12 * np.abs(yaw))
    gap = JAW * jaw * (1 - 0.15 * rounding)
    thin = (1 - 0.5 * press) * (1 - 0.12 * jaw)
    upper, lower = face.lip_upper * thin * (1 + 0.3 * rounding), face.lip_lower * thin * (1 + 0.25 * rounding)
    corners = np.full_like(half, 2.6 * corner)
    geometry = np.stack(
        (half, half * (0.86 - 0.16 * rounding), 0.24 * gap, 0.76 * gap, upper, lower, corners, 3.6 * teeth, 1.0 * tongue), 1
    )
    top = -np.maximum(0.24 * gap + upper, corners)
    bottom = np.maximum(0.76 * gap + lower, -corners)
    roll = pose_F5[:, 2]
    x = np.stack((-half, half, -half, half), 1)
    y = np.stack((top, top, bottom, bottom), 1)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    centre = feature_centre(pose_F5, *MOUTH_AT)
    px = centre[:, :1] + scale[:, None] * (c * x - s * y)
    py = centre[:, 1:] + scale[:, None] * (s * x + c * y)
    box = np.stack((px.min(1), py.min(1), px.max(1), py.max(1)), 1) / 96
    return MouthShape(geometry, gap * scale, 2 * half * scale, box)


def window_grid(corner_N2: Tensor, centre_N2: Tensor, roll_N: Tensor, scale_N: Tensor, shape: tuple[int, int], pixel: float):
    """Face-aligned coordinates (N, h, w) of the pixels of windows.

    Args:
        corner_N2: left and top pixel; centre_N2: the feature's centre, units. roll_N: (cos, sin) as (N, 2); scale_N: (N,).
    """
    h, w = shape
    left = corner_N2[:, 0].reshape(-1, 1, 1) + (torch.arange(w, device=roll_N.device) + 0.5)
    top = corner_N2[:, 1].reshape(-1, 1, 1) + (torch.arange(h, device=roll_N.device) + 0.5).reshape(1, -1, 1)
    dx = left * pixel - centre_N2[:, 0].reshape(-1, 1, 1)
    dy = top * pixel - centre_N2[:, 1].reshape(-1, 1, 1)
    c, s = (roll_N[:, k].reshape(-1, 1, 1) / scale_N.reshape(-1, 1, 1) for k in (0, 1))
    return c * dx + s * dy, c * dy - s * dx


def draw_mouth(x: Tensor, y: Tensor, geometry_NG: Tensor, skin_N3: Tensor, lip_N3: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    """Packed window pixels and the coverage of the lips with what they enclose, both (N, h, w)."""
    half, inner_half, up, down, upper, lower, corner, teeth, tongue = (g.reshape(-1, 1, 1) for g in geometry_NG.T)
    s = x / half
    s2 = (s * s).clamp_(max=1.0)
    arch = (1.0 - s2).sqrt_()
    bend = y + corner * s2  # height above (-) or below (+) the line between the lips
    side = x.abs()
    top = bend + (up + upper) * (arch - 0.10 * (1.0 - 6.0 * s.abs()).clamp_(min=0.0))
    bottom = (down + lower) * arch - bend
    whole = ramp(torch.minimum(torch.minimum(top, bottom), half - side), pixel)
    t = x / inner_half
    t2 = (t * t).clamp_(max=1.0)
    inner_arch = (1.0 - t2).sqrt_()
    roof = bend + up * inner_arch  # depth below the upper lip's inner edge
    floor = down * inner_arch - bend  # height above the lower lip's inner edge
    line = 0.42
    inside = ramp(torch.minimum(torch.minimum(roof, floor).add_(line), inner_half - side), pixel)
    gap = (up + down) * inner_arch
    teeth_cover = ramp(torch.minimum(teeth * inner_arch, 0.42 * gap) - roof, pixel) * (gap * 0.7 - 0.6).clamp_(0.0, 1.0)
    tongue_cover = ramp(tongue * (0.36 * (up + down) * (1.0 - 1.6 * t2)) - floor, pixel)
    dark = skin_N3 * 0.10 + torch.tensor((0.10, 0.01, 0.02), device=x.device)
    white = torch.tensor((0.96, 0.95, 0.92), device=x.device).expand_as(skin_N3)
    pink = torch.tensor((0.80, 0.32, 0.34), device=x.device).expand_as(skin_N3)
    crown = (bend * 0.5 + 0.5).clamp_(0.0, 1.0)
    upper_shade = lip_N3 * 0.80
    layers = [
        (inside * teeth_cover, white),
        (inside * tongue_cover, pink),
        (inside, dark),
        (whole * crown, lip_N3),
        (whole, upper_shade),
    ]
    return stack(layers), whole


def draw_eye(x: Tensor, y: Tensor, shape: dict[str, Tensor], pixel: float) -> Tensor:
    """Packed windows (N, h, w) of one eye with its brow.

    `shape` holds (N,) numbers: side (-1 left, 1 right), width, height, lid (0..1.4), gaze_x, gaze_y, brow_inner, brow_outer
    (raise), brow_width, brow_thick, lashes, and (N, 3) colours: skin, iris, hair.
    """
    n = {k: v.reshape(-1, 1, 1) for k, v in shape.items() if v.dim() == 1}
    u = x / n["width"]
    arch = (1.0 - (u * u).clamp_(max=1.0))
    lid = n["height"] * n["lid"]
    above = y + lid * arch  # below the upper lid
    below = 0.55 * lid * arch - y  # above the lower lid
    inside = torch.minimum(torch.minimum(above, below), n["width"] - x.abs())
    white = ramp(inside.clone(), pixel)
    gx, gy = x - n["gaze_x"] * 1.6, y - n["gaze_y"] * 0.7 + 0.3 * lid
    near = (gx * gx + gy * gy).sqrt_()
    radius = 0.62 * n["height"]
    iris, pupil = ramp(radius - near, pixel), ramp(0.45 * radius - near, pixel)
    glint = ramp(0.75 - torch.maximum((gx - 0.9).abs(), (gy + 1.0).abs()), pixel)
    edge = torch.minimum(0.55 + 0.45 * n["lashes"] - (above + 0.35).abs(), n["width"] + 0.6 - x.abs())
    line = ramp(edge, pixel)
    out = x * n["side"] / n["brow_width"]  # -1 at the nose .. 1 at the temple
    lift = n["brow_inner"] * (0.5 - 0.5 * out) + n["brow_outer"] * (0.5 + 0.5 * out)
    off = (y + n["height"] + 4.6 + lift - 1.6 * out * out).abs()
    brow = ramp(torch.minimum(n["brow_thick"] * (1.15 - 0.4 * out) - off, n["brow_width"] - x.abs()), pixel)
    skin, hair = shape["skin"], shape["hair"]
    black = torch.full_like(skin, 0.06)
    pale = torch.full_like(skin, 0.97)
    return stack(
        [
            (brow, hair * 0.75),
            (line, black + skin * 0.12),
            (white * glint * iris, pale),
            (white * pupil, black),
            (white * iris, shape["iris"]),
            (white, pale),
        ]
    )


def draw_hand(x: Tensor, y: Tensor, pixel: float) -> Tensor:
    """Coverage of a hand seen from its back, fingers up, centred on the palm; x, y in units (N, h, w)."""
    cover = ellipse(x, y, 8.5, 10.0, pixel)
    for dx, dy, length, slope in ((-6.3, -12.0, 7.0, -0.16), (-2.2, -15.0, 8.5, -0.05), (2.1, -15.0, 8.5, 0.05), (6.2, -12.5, 7.5, 0.16)):
        cover = torch.maximum(cover, ellipse(x - dx + slope * (y - dy), y - dy, 2.4, length, pixel))
    return torch.maximum(cover, ellipse(x - 9.5 - 0.5 * (y + 1), y + 1.0, 2.6, 6.5, pixel))
