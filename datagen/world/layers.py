"""What stands still in a clip: the background with the shoulders, and the head as a texture that frames then move.

B clips; units of 1/96 frame. The head texture covers face coordinates -50..50 both ways, drawn at 1.5 samples per
pixel and doubled by interpolation, so that a nearest-neighbour look-up misplaces nothing by more than 1/6 pixel.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from datagen.world.shapes import average, ellipse, pack, paint, ramp

REACH = 50.0  # units from the texture's centre to its border


def gather(items: list, names: str, device: torch.device, ndim: int = 3) -> dict[str, Tensor]:
    """Numbers of many dataclasses as tensors (B, 1, 1) by name; tuples become (B, length)."""
    found = {}
    for name in names.split():
        values = torch.tensor([getattr(item, name) for item in items], dtype=torch.float32, device=device)
        found[name] = values if values.dim() > 1 else values.reshape(-1, *(1,) * (ndim - 1))
    return found


def flag(values: list[bool], device: torch.device) -> Tensor:
    """(B, 1, 1) of 0 and 1."""
    return torch.tensor(values, dtype=torch.float32, device=device).reshape(-1, 1, 1)


@lru_cache(maxsize=8)
def _curls(side: int) -> np.ndarray:
    """(1, side, side): how far curly hair stands out in each direction, -1..1."""
    at = (np.arange(side) + 0.5) / side * 2 - 1
    angle = np.arctan2(at[:, None] + 0.1, at[None, :])
    return (0.6 * np.cos(13 * angle) + 0.4 * np.cos(23 * angle + 1.0))[None].astype(np.float32)


def background(face_list: list, scene_list: list, size: int, device: torch.device) -> Tensor:
    """(B, size, size) packed opaque pixels: backdrop, its pattern, neck and shoulders."""
    pixel = 96.0 / size
    at = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * pixel
    x, y = at.reshape(1, 1, -1), at.reshape(1, -1, 1)
    s = gather(scene_list, "top bottom clothes pattern_at light", device)
    skin = gather(face_list, "skin", device)["skin"]
    fade = y / 96.0
    rgb = s["top"].reshape(-1, 3, 1, 1) * (1 - fade) + s["bottom"].reshape(-1, 3, 1, 1) * fade
    canvas = torch.ones(len(face_list), 4, size, size, device=device)
    canvas[:, :3] = rgb
    px, py = s["pattern_at"][:, 0].reshape(-1, 1, 1), s["pattern_at"][:, 1].reshape(-1, 1, 1)
    kinds = [scene.pattern for scene in scene_list]
    pale = (s["top"] * 0.6 + 0.4).clamp(0, 1)
    if "window" in kinds:
        inside = torch.minimum(14.0 - (x - px).abs(), 18.0 - (y - py).abs())
        cross = torch.minimum((x - px).abs(), (y - py).abs()) - 1.0
        paint(canvas, ramp(torch.minimum(inside, cross), pixel) * flag([k == "window" for k in kinds], device), pale)
    if "stripes" in kinds:
        step = (x + 0.35 * y + px) / 12.0
        wave = ((step - torch.floor(step)) - 0.5).abs() * 12.0 - 3.0
        paint(canvas, ramp(wave, pixel) * 0.5 * flag([k == "stripes" for k in kinds], device), s["bottom"] * 0.75)
    if "discs" in kinds:
        shown = flag([k == "discs" for k in kinds], device)
        for dx, dy, radius in ((0.0, 0.0, 9.0), (38.0, 14.0, 6.0), (-34.0, 26.0, 7.0), (64.0, -6.0, 8.0)):
            paint(
                canvas,
                ellipse((x - px - dx).expand(-1, size, -1), y - py - dy, radius, radius, pixel) * 0.6 * shown,
                pale,
            )
    low = slice(size * 5 // 8, size)
    part, yl = canvas[:, :, low], y[:, low]
    neck = torch.minimum(15.0 - (x - 48).abs(), yl - 60.0)
    paint(part, ramp(neck, pixel), skin * 0.78)
    paint(part, ellipse((x - 48).expand(1, yl.shape[1], -1), yl - 112.0, 46.0, 26.0, pixel), s["clothes"])
    paint(part, ellipse((x - 48).expand(1, yl.shape[1], -1), yl - 85.0, 14.0, 7.0, pixel), skin * 0.78)
    return pack(canvas[:, 0], canvas[:, 1], canvas[:, 2], canvas[:, 3])


def head(face_list: list, scene_list: list, yaw_B: Tensor, size: int) -> Tensor:
    """(B, T, T) packed texture of the heads without eyes, brows and mouth; T = 3 samples per pixel over 2 * REACH
    units."""
    device, density = yaw_B.device, 1.5 * size / 96
    side, pixel = round(2 * REACH * density), 96.0 / size
    at = (torch.arange(side, dtype=torch.float32, device=device) + 0.5) / density - REACH
    f = gather(
        face_list,
        "skin hair hat_colour half_width chin jaw_taper nose hairline hair_slope hair_curve wrinkles eye_gap lip",
        device,
    )
    light = gather(scene_list, "light", device)["light"]
    canvas = torch.zeros(len(face_list), 4, side, side, device=device)
    draw = _HeadPainter(canvas, at, density, pixel, f, light, yaw_B.reshape(-1, 1, 1), face_list)
    draw.hair_behind()
    draw.skin()
    draw.beard()
    draw.details()
    draw.hair_before()
    draw.hat()
    draw.glasses()
    for edge in (0, -1):
        canvas[:, :, edge] = 0.0
        canvas[:, :, :, edge] = 0.0
    return _double(canvas)


def _double(canvas: Tensor) -> Tensor:
    """Pack (B, 4, T, T) and put the mean of two neighbours between them: (B, 2 T, 2 T)."""
    texture = pack(canvas[:, 0], canvas[:, 1], canvas[:, 2], canvas[:, 3])
    for dim in (1, 2):
        length = texture.shape[dim]
        after = torch.cat((texture.narrow(dim, 1, length - 1), texture.narrow(dim, length - 1, 1)), dim)
        shape = list(texture.shape)
        shape[dim] *= 2
        texture = torch.stack((texture, average(texture, after)), dim + 1).reshape(shape)
    return texture


class _HeadPainter:
    """Paints one batch of heads part by part; each part touches only the rows and columns it needs."""

    def __init__(self, canvas, at, density, pixel, f, light, yaw, face_list) -> None:
        self.canvas, self.at, self.density, self.pixel = canvas, at, density, pixel
        self.f, self.light, self.yaw, self.faces = f, light, yaw, face_list
        self.device = at.device

    def area(self, left: float, right: float, top: float, bottom: float) -> tuple[Tensor, Tensor, Tensor]:
        """Part of the canvas and its coordinates: x (1, 1, w), y (1, h, 1)."""
        rows, columns = (
            slice(max(0, int((a + REACH) * self.density)), min(len(self.at), int((b + REACH) * self.density) + 1))
            for a, b in ((top, bottom), (left, right))
        )
        return self.canvas[:, :, rows, columns], self.at[columns].reshape(1, 1, -1), self.at[rows].reshape(1, -1, 1)

    def having(self, condition) -> Tensor | None:
        """(B, 1, 1) flags of the faces with a property, or None if no face has it."""
        flags = [bool(condition(face)) for face in self.faces]
        return flag(flags, self.device) if any(flags) else None

    def hair_behind(self) -> None:
        for cuts, rx, ry, cy in (
            (("long",), 8.0, 50.0, 2.0),
            (("bob",), 8.0, 36.0, -6.0),
            (("curly",), 8.5, 38.0, -9.0),
        ):
            shown = self.having(lambda face, cuts=cuts: face.cut in cuts)
            if shown is None:
                continue
            area, x, y = self.area(-49, 49, -49, 49)
            grow = 0.0
            if cuts == ("curly",):
                grow = torch.from_numpy(_curls(len(self.at))).to(self.device)
                start = int((-49 + REACH) * self.density)
                grow = grow[:, start : start + y.shape[1], start : start + x.shape[2]] * 1.8
            cover = ellipse(
                x.expand(1, y.shape[1], -1), y - cy, self.f["half_width"] + rx + grow, ry + grow, self.pixel
            )
            paint(area, cover * shown, self.f["hair"] * 0.82)

    def skin(self) -> None:
        f = self.f
        area, x, y = self.area(-37, 37, -40, 41)
        for sign in (-1.0, 1.0):
            ears, ex, ey = self.area(*sorted((sign * 24, sign * 38)), -14, 8)
            cover = ellipse(
                (ex - sign * (f["half_width"] - 0.3) + 2.5 * self.yaw).expand(-1, ey.shape[1], -1),
                ey + 3,
                4.2,
                7.5,
                self.pixel,
            )
            paint(ears, cover, f["skin"] * 0.9)
        self.face_cover = self._egg(x, y)
        shade = 1.0 + (x * self.light[:, 0].reshape(-1, 1, 1) + y * self.light[:, 1].reshape(-1, 1, 1)) / 30.0
        rim = (x - 2 * self.yaw).abs() / f["half_width"]
        shade = (shade - 0.16 * rim * rim * rim).clamp_(0.4, 1.3)
        cover = self.face_cover.unsqueeze(1)
        area.mul_(1.0 - cover)
        area[:, 3].add_(self.face_cover)
        lit = (shade * self.face_cover).unsqueeze(1) * f["skin"].reshape(-1, 3, 1, 1)
        area[:, :3].add_(torch.minimum(lit, cover))

    def _egg(self, x: Tensor, y: Tensor) -> Tensor:
        """The outline of a face: an ellipse whose sides draw in towards the chin."""
        down = (y / self.f["chin"]).clamp(0.0, 1.0)
        width = self.f["half_width"] * (1.0 - self.f["jaw_taper"] * down * down)
        height = torch.where(y > 0, self.f["chin"], torch.full_like(self.f["chin"], 38.0))
        return ellipse(x.expand(1, y.shape[1], -1), y, width, height, self.pixel)

    def beard(self) -> None:
        f = self.f
        area, x, y = self.area(-37, 37, -40, 41)
        fx = x - 4.5 * self.yaw
        colour = f["hair"] * 0.85
        full = self.having(lambda face: face.beard == "full beard")
        if full is not None:
            edge = y - 7.0 - 0.010 * (32.0 - fx.abs()) * (32.0 - fx.abs()) * 0.6
            paint(area, ramp(edge, self.pixel) * self.face_cover * full, colour)
        stubble = self.having(lambda face: face.beard == "stubble")
        if stubble is not None:
            edge = y - 8.0 - 0.006 * (32.0 - fx.abs()) * (32.0 - fx.abs())
            paint(area, ramp(edge, 3.0) * self.face_cover * stubble * 0.35, colour)
        chin = self.having(lambda face: face.beard == "goatee")
        if chin is not None:
            cover = ellipse((fx).expand(-1, y.shape[1], -1), y - f["chin"] + 6.0, 9.0, 8.0, self.pixel)
            paint(area, cover * self.face_cover * chin, colour)
        lip = self.having(lambda face: face.beard in ("moustache", "full beard"))
        if lip is not None:
            cover = ellipse(fx.expand(-1, y.shape[1], -1), y - 13.4 - 0.02 * fx * fx, 13.0, 2.8, self.pixel)
            paint(area, cover * lip, colour)

    def details(self) -> None:
        f, yaw = self.f, self.yaw
        for sign in (-1.0, 1.0):
            cheek, cx, cy = self.area(*sorted((sign * 6, sign * 30)), 0, 18)
            paint(
                cheek,
                ellipse((cx - sign * 18 - 4 * yaw).expand(-1, cy.shape[1], -1), cy - 8.5, 6.5, 5.0, 5.0) * 0.18,
                f["lip"],
            )
            if (shown := self.having(lambda face: face.wrinkles > 0)) is not None:
                fold, wx, wy = self.area(*sorted((sign * 6, sign * 26)), -4, 22)
                line = 0.6 - (wx - sign * (9.5 + 0.35 * (wy - 2).clamp(0)) - 4.5 * yaw).abs()
                line = torch.minimum(line, torch.minimum(wy - 3.0, 15.0 - wy))
                paint(fold, ramp(line, self.pixel) * shown * 0.5, f["skin"] * 0.55)
                bags = 0.45 - (wy + 1.5 - 0.03 * (wx - sign * f["eye_gap"] - 4.5 * yaw).square()).abs()
                bags = torch.minimum(bags, 5.5 - (wx - sign * f["eye_gap"] - 4.5 * yaw).abs())
                paint(fold, ramp(bags, self.pixel) * shown * 0.5, f["skin"] * 0.55)
        if (shown := self.having(lambda face: face.wrinkles > 0)) is not None:
            brow, bx, by = self.area(-18, 22, -27, -18)
            lines = torch.maximum(0.4 - (by + 24.5).abs(), 0.4 - (by + 21.5).abs())
            lines = torch.minimum(lines, 10.0 - (bx - 4 * yaw).abs())
            paint(brow, ramp(lines, self.pixel) * shown * 0.45, f["skin"] * 0.55)
        nose, nx, ny = self.area(-14, 14, -9, 14)
        nx = (nx - 5.5 * yaw).expand(-1, ny.shape[1], -1)
        side = torch.where(yaw < 0, torch.ones_like(yaw), -torch.ones_like(yaw))
        ridge = torch.minimum(0.7 - (nx - side * (0.8 + 0.12 * (ny + 8))).abs(), torch.minimum(ny + 7.0, 8.0 - ny))
        paint(nose, ramp(ridge, self.pixel) * 0.45, f["skin"] * 0.6)
        paint(nose, ellipse(nx, ny - 8.4, f["nose"], 2.2, self.pixel) * 0.5, f["skin"] * 0.72)
        for sign in (-1.0, 1.0):
            paint(nose, ellipse(nx - sign * f["nose"] * 0.5, ny - 9.0, 1.0, 0.7, self.pixel) * 0.8, f["skin"] * 0.35)

    def hair_before(self) -> None:
        f = self.f
        shown = self.having(lambda face: face.cut != "bald")
        if shown is None:
            return
        area, x, y = self.area(-44, 44, -49, 14)
        low = self.having(lambda face: face.cut in ("bob", "long"))
        low = 0.0 if low is None else low
        parted = self.having(lambda face: face.cut == "parted")
        slope = 0.0 if parted is None else f["hair_slope"] * parted
        cap = ellipse(x.expand(1, y.shape[1], -1), y + 4.0, f["half_width"] + 2.6, 40.0, self.pixel)
        line = f["hairline"] + slope * x + f["hair_curve"] * x * x
        # Above the hairline, and (long cuts) down the sides of the face.
        inside = torch.maximum(
            line - y, low * ((x - 2.0 * self.yaw).abs() - f["half_width"] + 4.0) + (low - 1.0) * 20.0
        )
        paint(area, ramp(inside, self.pixel) * cap * shown, f["hair"])
        curls = self.having(lambda face: face.cut == "curly")
        if curls is not None:
            for k in range(7):
                dx, dy = -27.0 + 9.0 * k, -31.0 + 0.016 * (-27.0 + 9.0 * k) ** 2
                tuft, tx, ty = self.area(dx - 9, dx + 9, dy - 9, dy + 9)
                paint(
                    tuft,
                    ellipse((tx - dx).expand(1, ty.shape[1], -1), ty - dy, 6.5, 6.5, self.pixel) * curls,
                    f["hair"] * (1.0 if k % 2 else 0.9),
                )

    def hat(self) -> None:
        f = self.f
        shown = self.having(lambda face: face.hat != "none")
        if shown is None:
            return
        area, x, y = self.area(-46, 46, -50, -12)
        dome = ellipse(x.expand(1, y.shape[1], -1), y + 18.0, f["half_width"] + 4.0, 31.0, self.pixel)
        paint(area, dome * ramp(-20.5 - y + 0.004 * x * x, self.pixel) * shown, f["hat_colour"])
        band = ramp(torch.minimum(-20.5 - y + 0.004 * x * x, y + 25.5 - 0.004 * x * x), self.pixel)
        paint(area, dome * band * shown, f["hat_colour"] * 0.7)
        cap = self.having(lambda face: face.hat == "cap")
        if cap is not None:
            paint(
                area,
                ellipse((x - 6.0 * self.yaw).expand(-1, y.shape[1], -1), y + 21.0, 27.0, 4.0, self.pixel) * cap,
                f["hat_colour"] * 0.55,
            )

    def glasses(self) -> None:
        f = self.f
        shown = self.having(lambda face: face.glasses)
        frame = torch.full_like(f["skin"], 0.12)
        if shown is not None:
            for sign in (-1.0, 1.0):
                area, x, y = self.area(*sorted((sign * -1, sign * 32)), -20, 4)
                gx = (x - sign * f["eye_gap"] - 4.5 * self.yaw).expand(-1, y.shape[1], -1)
                outer, inner = ellipse(gx, y + 7.5, 9.6, 8.2, self.pixel), ellipse(gx, y + 7.5, 8.5, 7.1, self.pixel)
                paint(area, (outer - inner).clamp_(0, 1) * shown, frame)
            area, x, y = self.area(-8, 8, -11, -6)
            bridge = torch.minimum(0.6 - (y + 8.5).abs(), f["eye_gap"] - 9.0 - (x - 4.5 * self.yaw).abs())
            paint(area, ramp(bridge, self.pixel) * shown, frame)
        rings = self.having(lambda face: face.earrings)
        if rings is not None:
            gold = torch.tensor((0.95, 0.78, 0.25), device=self.device).expand(len(self.faces), 3)
            for sign in (-1.0, 1.0):
                area, x, y = self.area(*sorted((sign * 26, sign * 38)), 2, 12)
                ring = ellipse(
                    (x - sign * (f["half_width"] + 0.4) + 2.5 * self.yaw).expand(-1, y.shape[1], -1),
                    y - 7.0,
                    1.7,
                    2.2,
                    self.pixel,
                )
                paint(area, ring * rings, gold)
