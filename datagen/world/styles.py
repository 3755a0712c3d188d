"""How a line is delivered: what a style does to the voice and to the face, at intensity 0..1.

Drawn independently of voice, face, phrase and language, so that none predicts another; the scene's tint and the emotion
words of a phrase agree with the style in 70 % of the clips only (`clip.World`).
Words in captions are of the audible and visible kind ("in a loud, harsh voice, brows lowered").
"""

from __future__ import annotations

from dataclasses import dataclass

INTENSITIES = (0.5, 1.0)


@dataclass(frozen=True)
class Style:
    """Effects at intensity 1 (all scale linearly), and the words for both intensities.

    Voice: `pitch` in semitones, `span` added to espeak's range (50 = normal), `rate` factor minus 1, `gain` and `tilt`
    (highs above ~1.5 kHz) in dB, `drive` = soft clipping 0..1, `whisper` = share of voicing lost, `tremor` 0..1.
    Face: brow inner/outer ends raised (+) in units of 1/96 frame, `lid` added to eye opening (1 = normal), mouth
    `corner` up (+), `bob` factor minus 1 of head motion, `jaw` factor minus 1 of mouth opening.
    Scene: `tint` = hue 0..1, saturation, lightness of a background that goes with it.
    """

    name: str
    share: float
    words: tuple[str, str]
    tint: tuple[float, float, float]
    pitch: float = 0.0
    span: float = 0.0
    rate: float = 0.0
    gain: float = 0.0
    tilt: float = 0.0
    drive: float = 0.0
    whisper: float = 0.0
    tremor: float = 0.0
    inner: float = 0.0
    outer: float = 0.0
    lid: float = 0.0
    corner: float = 0.0
    bob: float = 0.0
    jaw: float = 0.0

    def at(self, name: str, intensity: float) -> float:
        """The effect called `name` at that intensity."""
        return getattr(self, name) * intensity


STYLES: dict[str, Style] = {
    style.name: style
    for style in (
        Style("neutral", 0.3, ("in an even voice", "in an even voice, with a relaxed face"), (0.58, 0.12, 0.62)),
        Style(
            "happy", 0.14, ("in a bright voice", "in a bright, lively voice, smiling broadly"), (0.13, 0.7, 0.74),
            pitch=3.0, span=30, rate=0.10, gain=2, tilt=2, inner=1.2, outer=1.6, lid=-0.12, corner=1.0, bob=0.9,
            jaw=0.15,
        ),
        Style(
            "angry", 0.14, ("in a hard voice, frowning", "in a loud, harsh voice, brows lowered"), (0.0, 0.75, 0.42),
            pitch=1.5, span=20, rate=0.12, gain=6, tilt=6, drive=1.0, inner=-3.6, outer=1.2, lid=-0.22, corner=-0.7,
            bob=1.3, jaw=0.25,
        ),
        Style(
            "sad", 0.14, ("in a low voice", "in a low, slow voice, the corners of the mouth down"), (0.63, 0.45, 0.3),
            pitch=-2.5, span=-30, rate=-0.16, gain=-4, tilt=-5, inner=2.6, outer=-1.8, lid=-0.3, corner=-1.1, bob=-0.5,
            jaw=-0.15,
        ),
        Style(
            "fearful", 0.14, ("in a trembling voice", "in a high, trembling voice, eyes wide open"), (0.75, 0.4, 0.22),
            pitch=5.0, span=10, rate=0.14, gain=-1, tremor=1.0, inner=3.6, outer=1.4, lid=0.35, corner=-0.5, bob=0.3,
        ),
        Style(
            "whisper", 0.14, ("in a hushed voice", "in a whisper"), (0.48, 0.35, 0.18),
            span=-10, rate=-0.04, gain=-9, whisper=1.0, inner=0.8, outer=0.4, lid=-0.1, corner=-0.1, bob=-0.4, jaw=-0.1,
        ),
    )
}  # fmt: skip


def draw(u: float) -> Style:
    """The style at the fraction `u` in [0, 1) of their shares (which sum to 1)."""
    for style in STYLES.values():
        u -= style.share
        if u < 0:
            return style
    return style
