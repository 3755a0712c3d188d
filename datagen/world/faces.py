"""Face identities and the scene around them: what the renderer draws and what captions may truthfully say.

Lengths are in units of 1/96 of the frame's side; the face's own coordinates have their origin at its centre, x to the
right of the picture and y down. Colours are RGB 0..1.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from datagen.world.splits import Kind, kind_of

Colour = tuple[float, float, float]

_STREAM = 0xFACE
SKINS = (
    (0.98, 0.86, 0.76),
    (0.94, 0.78, 0.64),
    (0.86, 0.67, 0.50),
    (0.72, 0.52, 0.36),
    (0.55, 0.37, 0.25),
    (0.40, 0.26, 0.18),
)
HAIR_COLOURS = {
    "black": (0.08, 0.07, 0.08),
    "brown": (0.32, 0.19, 0.10),
    "blond": (0.87, 0.70, 0.36),
    "red": (0.66, 0.26, 0.10),
    "grey": (0.66, 0.66, 0.68),
    "white": (0.93, 0.93, 0.92),
    "blue": (0.16, 0.30, 0.72),
    "green": (0.12, 0.48, 0.26),
}
CLOTHES = {
    "red": (0.80, 0.13, 0.15),
    "blue": (0.13, 0.30, 0.80),
    "green": (0.13, 0.58, 0.28),
    "yellow": (0.95, 0.80, 0.16),
    "white": (0.94, 0.94, 0.93),
    "black": (0.10, 0.10, 0.12),
    "purple": (0.48, 0.20, 0.62),
    "orange": (0.95, 0.50, 0.12),
}
EYES = ((0.30, 0.18, 0.10), (0.20, 0.42, 0.75), (0.22, 0.52, 0.30), (0.42, 0.44, 0.48), (0.10, 0.08, 0.08))
HAIR_CUTS = ("bald", "short", "parted", "curly", "bob", "long")
BEARDS = ("none", "stubble", "moustache", "goatee", "full beard")
HATS = ("none", "cap", "beanie")


@dataclass(frozen=True)
class Face:
    """One face, the same in every clip. Sizes in units; `lip` is a colour; words (hair, beard, ...) as in the lists
    above."""

    number: int
    kind: Kind
    skin: Colour
    hair: Colour
    hair_word: str
    cut: str
    beard: str
    glasses: bool
    hat: str
    hat_colour: Colour
    earrings: bool
    eye: Colour
    lip: Colour
    half_width: float
    chin: float
    jaw_taper: float
    eye_gap: float
    eye_width: float
    eye_height: float
    brow_width: float
    brow_thick: float
    nose: float
    mouth_half_width: float
    lip_upper: float
    lip_lower: float
    hairline: float
    hair_slope: float
    hair_curve: float
    wrinkles: float
    lashes: float


@dataclass(frozen=True)
class Scene:
    """What surrounds a face in one clip: two background colours and their pattern, clothes, light, occluder.

    `light` = (x, y) slope of brightness over the face; `occluder` = "none", "hand" or "bar".
    """

    top: Colour
    bottom: Colour
    pattern: str
    pattern_at: tuple[float, float]
    clothes: Colour
    clothes_word: str
    light: tuple[float, float]
    occluder: str
    occluder_from: tuple[float, float]
    occluder_to: tuple[float, float]
    occluder_angle: float


PATTERNS = ("plain", "window", "stripes", "discs")


def _pick(rng: np.random.Generator, words, weights=None):
    p = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    return words[int(rng.choice(len(words), p=p))]


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(float(x + (y - x) * share) for x, y in zip(a, b, strict=True))


@lru_cache(maxsize=20000)
def face(number: int) -> Face:
    """The face with that number: always the same one."""
    rng = np.random.default_rng([_STREAM, number])
    kind = kind_of(number)
    woman, child, elder = kind.gender == "woman", kind.age == "child", kind.age == "elder"
    tone = rng.uniform(0, len(SKINS) - 1.001)
    skin = _mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    cut = _pick(rng, HAIR_CUTS, (0, 1, 1.5, 2, 2.5, 3) if woman else (0 if child else 1 + elder, 3, 2, 1.5, 0.3, 0.2))
    hair_word = _pick(rng, tuple(HAIR_COLOURS), (0, 0, 0, 0, 5, 5, 0, 0) if elder else (3, 3, 3, 2, 0, 0, 0.6, 0.6))
    beard = "none" if woman or child else _pick(rng, BEARDS, (4, 1.2, 1, 1, 2))
    lip = _mix(
        _mix(skin, (0.70, 0.22, 0.24), 0.55), (0.80, 0.08, 0.16), rng.uniform(0.4, 0.9) if woman and not child else 0.0
    )
    young = 1.0 if child else 0.0
    return Face(
        number=number,
        kind=kind,
        skin=skin,
        hair=_mix(HAIR_COLOURS[hair_word], (0.4, 0.3, 0.2), rng.uniform(0, 0.12)),
        hair_word=hair_word,
        cut=cut,
        beard=beard,
        glasses=bool(rng.uniform() < 0.25),
        hat=_pick(rng, HATS, (8, 1, 1)),
        hat_colour=CLOTHES[_pick(rng, tuple(CLOTHES))],
        earrings=bool(woman and rng.uniform() < 0.4),
        eye=_pick(rng, EYES),
        lip=lip,
        half_width=rng.uniform(28.0, 31.5) + young,
        chin=rng.uniform(35.5, 39.0) - 2.5 * young - 0.8 * woman,
        jaw_taper=rng.uniform(0.14, 0.26) if woman else rng.uniform(0.04, 0.18),
        eye_gap=rng.uniform(11.8, 13.6),
        eye_width=rng.uniform(5.4, 6.6) + 0.8 * young,
        eye_height=rng.uniform(3.4, 4.5) + 0.9 * young,
        brow_width=rng.uniform(6.2, 7.8),
        brow_thick=rng.uniform(0.7, 1.2) if woman or child else rng.uniform(1.1, 1.8),
        nose=rng.uniform(3.0, 5.2) - 0.8 * young,
        mouth_half_width=rng.uniform(13.8, 16.2) - 0.6 * young,
        lip_upper=rng.uniform(2.0, 3.2) + 0.4 * woman,
        lip_lower=rng.uniform(2.8, 4.2) + 0.5 * woman,
        hairline=rng.uniform(-27.0, -21.5) - 3.0 * elder * (not woman),
        hair_slope=rng.uniform(-0.35, 0.35),
        hair_curve=rng.uniform(0.008, 0.022),
        wrinkles=rng.uniform(0.6, 1.0) if elder else 0.0,
        lashes=1.0 if woman else 0.0,
    )


def scene(rng: np.random.Generator, tint: tuple[float, float, float]) -> Scene:
    """A scene with the given tint (hue, saturation, lightness 0..1); everything else drawn."""
    hue, saturation, lightness = tint
    hue = (hue + rng.uniform(-0.05, 0.05)) % 1.0
    lightness = float(np.clip(lightness + rng.uniform(-0.08, 0.08), 0.08, 0.92))
    saturation = float(np.clip(saturation + rng.uniform(-0.15, 0.15), 0.0, 1.0))
    step = rng.uniform(-0.22, 0.22)
    word = _pick(rng, tuple(CLOTHES))
    hidden = _pick(rng, ("none", "hand", "bar"), (17, 2, 1))
    side = 1.0 if rng.uniform() < 0.5 else -1.0
    if hidden == "hand":  # a hand that rises beside the face and may cross the cheek or the mouth's corner
        begin, end = (48 + side * rng.uniform(34, 60), 118.0), (48 + side * rng.uniform(10, 30), rng.uniform(66, 88))
    else:  # a pole that passes before the camera
        begin, end = (48 - side * rng.uniform(30, 70), 48.0), (48 + side * rng.uniform(30, 70), 48.0)
    return Scene(
        top=colorsys.hls_to_rgb(hue, lightness, saturation),
        bottom=colorsys.hls_to_rgb(
            (hue + rng.uniform(-0.06, 0.06)) % 1, float(np.clip(lightness + step, 0.05, 0.95)), saturation
        ),
        pattern=_pick(rng, PATTERNS),
        pattern_at=(rng.uniform(8, 88), rng.uniform(8, 60)),
        clothes=CLOTHES[word],
        clothes_word=word,
        light=(rng.uniform(-0.16, 0.16), rng.uniform(-0.14, 0.04)),
        occluder=hidden,
        occluder_from=begin,
        occluder_to=end,
        occluder_angle=rng.uniform(-0.3, 0.3),
    )
