"""How well a clip says what it should, with lips that move with it: pure functions of arrays and words.

Legend: F frames, H/W height/width, K voices, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from justdub.evaluation.world.words import distance

_HEARD = 0.1  # share of the loud frames' level from which on a frame counts as speech


def word_accuracy(said: Sequence[str], wanted: Sequence[str]) -> float:
    """1 - word errors / wanted words, at least 0; errors are insertions, deletions and substitutions."""
    if not wanted:
        return float(not said)
    return max(0.0, 1 - distance(said, wanted) / len(wanted))


def leaked(said: Sequence[str], old: Sequence[str], new: Sequence[str]) -> float | None:
    """Share, 0..1, of the old line's words that are heard although the new line has no such word; None where the new
    line has them all."""
    gone = [word for word in old if word not in set(new)]
    return sum(word in set(said) for word in gone) / len(gone) if gone else None


def picture_error(one_FHW3: np.ndarray, other_FHW3: np.ndarray, where_FHW: np.ndarray) -> float | None:
    """Mean absolute difference of uint8 frames, 0..255, over the pixels of `where`; None where there are none."""
    if not where_FHW.any():
        return None
    return float(np.abs(one_FHW3[where_FHW].astype(np.int16) - other_FHW3[where_FHW]).mean())


def is_nearest(found_E: np.ndarray, right_E: np.ndarray, others_KE: np.ndarray) -> bool:
    """Whether a vector is closer to the right one than to all others; all have length 1."""
    return bool(found_E @ right_E > (others_KE @ found_E).max())


def correlation(one_F: np.ndarray, other_F: np.ndarray) -> float:
    """Pearson's, -1..1; 0 where one of them is constant or has fewer than three values."""
    one, other = np.asarray(one_F, np.float64), np.asarray(other_F, np.float64)
    if len(one) < 3 or one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def speech(envelope_F: np.ndarray) -> slice:
    """From the first to the last frame that is not quiet beside the loud ones; everything if all is silent."""
    envelope = np.asarray(envelope_F)
    loud = np.flatnonzero(envelope > _HEARD * np.percentile(envelope, 95))
    return slice(int(loud[0]), int(loud[-1]) + 1) if len(loud) else slice(0, len(envelope))


def lips_and_sound(opening_F: np.ndarray, envelope_F: np.ndarray) -> float:
    """Correlation of the lips' opening with the sound's level, within speech."""
    during = speech(envelope_F)
    return correlation(opening_F[during], envelope_F[during])


def lips_and_articulation(opening_F: np.ndarray, expected_F: np.ndarray, envelope_F: np.ndarray) -> float:
    """Correlation of the lips' opening with the opening that the sound asks for, within speech."""
    during = speech(envelope_F)
    return correlation(opening_F[during], expected_F[during])
