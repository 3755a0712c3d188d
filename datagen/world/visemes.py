"""Phonemes -> mouth: six parameters at any instant, with coarticulation.

Each phoneme holds a target and a dominance (closures of the lips are strong, schwa is weak). A parameter at time t is
the dominance-weighted mean of all targets under a Gaussian window, in closed form (differences of the error
function), so a mouth track can be sampled at any frame rate without an intermediate grid. The idea of dominance
functions is Cohen & Massaro's (1993); the table is ours.

Legend: P phoneme pieces, F instants, C = `CHANNELS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from datagen.world.speech import Phoneme

CHANNELS = ("jaw", "width", "round", "press", "teeth", "tongue")
SMOOTHING = 0.022  # seconds, standard deviation of the window
REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

# jaw 0..1, width -1..1, rounding 0..1, lips pressed 0..1, teeth shown 0..1, tongue shown 0..1 | dominance
_OPEN_A = (1.0, 0.10, 0.0, 0.0, 0.5, 0.7, 1.3)
_MID_E = (0.55, 0.55, 0.0, 0.0, 0.7, 0.5, 1.2)
_CLOSE_I = (0.28, 1.0, 0.0, 0.0, 1.0, 0.3, 1.2)
_MID_O = (0.60, -0.45, 0.75, 0.0, 0.1, 0.3, 1.3)
_CLOSE_U = (0.28, -0.8, 1.0, 0.0, 0.0, 0.1, 1.4)
_FRONT_ROUND = (0.32, -0.6, 0.9, 0.0, 0.2, 0.2, 1.3)
_SCHWA = (0.42, 0.05, 0.05, 0.0, 0.5, 0.4, 0.6)
_LIPS = (0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 4.0)
_LIP_TEETH = (0.10, 0.15, 0.0, 0.45, 1.0, 0.0, 2.6)
_RIDGE = (0.22, 0.2, 0.0, 0.0, 0.8, 0.6, 0.8)
_HISS = (0.12, 0.45, 0.0, 0.0, 1.0, 0.0, 1.3)
_HUSH = (0.20, -0.45, 0.65, 0.0, 0.9, 0.0, 1.3)
_BACK = (0.32, 0.0, 0.0, 0.0, 0.3, 0.2, 0.6)
_BREATHED = (0.40, 0.0, 0.0, 0.0, 0.3, 0.2, 0.3)

_SHAPES: dict[str, tuple[float, ...]] = {}
for _letters, _shape in (
    ("a ɑ æ ɐ ä", _OPEN_A),
    ("ʌ ɒ", (0.8, 0.0, 0.1, 0.0, 0.4, 0.5, 1.2)),
    ("ɛ e ɜ ɝ", _MID_E),
    ("i ɪ ɨ", _CLOSE_I),
    ("o ɔ ɵ ɤ", _MID_O),
    ("u ʊ ʉ w ʍ ɯ", _CLOSE_U),
    ("y ʏ ø œ ɥ", _FRONT_ROUND),
    ("ə ɚ ɘ", _SCHWA),
    ("p b m", _LIPS),
    ("β", (0.08, 0.0, 0.1, 0.6, 0.2, 0.0, 2.4)),
    ("f v ʋ ɱ", _LIP_TEETH),
    ("t d n l ɫ ɾ r ɭ ɖ ʈ ɳ", _RIDGE),
    ("θ ð", (0.25, 0.2, 0.0, 0.0, 0.8, 1.0, 1.2)),
    ("s z ɕ ʑ ç", _HISS),
    ("ʃ ʒ ʂ ʐ ɹ ɻ", _HUSH),
    ("k ɡ g ŋ x ɣ χ ʁ ʀ q c ɟ", _BACK),
    ("j ʝ ʎ ɲ", (0.22, 0.6, 0.0, 0.0, 0.8, 0.3, 0.8)),
    ("h ɦ ʔ", _BREATHED),
):
    _SHAPES.update(dict.fromkeys(_letters.split(), _shape))
# Marks that change no lips: stress, length, palatalisation, nasality, ties, syllabicity, espeak's own variants.
_MARKS = frozenset("ˈˌːˑʲˠʰʷ͜͡-_'\"^~|;: 0123456789") | {chr(code) for code in range(0x0300, 0x0370)}


@lru_cache(maxsize=4096)
def pieces(ipa: str) -> tuple[str, ...]:
    """The letters of one phoneme symbol that have a mouth shape: 'ˈaʊ' -> ('a', 'ʊ')."""
    return tuple(letter for letter in ipa if letter in _SHAPES)


def unmapped(ipa: str) -> set[str]:
    """Letters of `ipa` that are neither a shape nor a known mark (the tests keep this empty)."""
    return {letter for letter in ipa if letter not in _SHAPES and letter not in _MARKS}


@lru_cache(maxsize=4096)
def _targets(ipa: str) -> np.ndarray:
    """(P, C + 1): targets and dominance."""
    return np.array([_SHAPES[letter] for letter in pieces(ipa)] or [(*_BREATHED,)], np.float64)


def mouth_track(phonemes: Sequence[Phoneme], times_F: np.ndarray, *, smoothing: float = SMOOTHING) -> np.ndarray:
    """Mouth parameters (F, C) at `times_F` (seconds, the phonemes' clock); at rest where nobody speaks.

    Before and after speech, and in pauses, the mouth relaxes to `REST` with the same window.
    """
    times_F = np.asarray(times_F, np.float64)
    if not phonemes:
        return np.zeros((len(times_F), len(CHANNELS)))
    starts, ends, shapes = [], [], []
    cursor = -1e3
    for phoneme in phonemes:
        if phoneme.start > cursor + 1e-4:
            starts.append([cursor]), ends.append([phoneme.start]), shapes.append(np.array([[*REST, 1.0]]))
        target = _targets(phoneme.ipa)
        edges = np.linspace(phoneme.start, phoneme.end, len(target) + 1)
        starts.append(edges[:-1]), ends.append(edges[1:]), shapes.append(target)
        cursor = phoneme.end
    starts.append([cursor]), ends.append([1e3]), shapes.append(np.array([[*REST, 1.0]]))
    start_P, end_P, shape_PC = np.concatenate(starts), np.concatenate(ends), np.concatenate(shapes)
    below = ndtr((end_P - times_F[:, None]) / smoothing) - ndtr((start_P - times_F[:, None]) / smoothing)
    weight_FP = below * shape_PC[:, -1]
    track = weight_FP @ shape_PC[:, :-1] / weight_FP.sum(1, keepdims=True)
    track[:, 0] *= 1 - np.clip(1.6 * track[:, 3] - 0.2, 0, 1)  # pressed lips close whatever the jaw does
    return track
