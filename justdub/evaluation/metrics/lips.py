"""Whether the lips move with the sound: the mouth's opening against the level of speech, and against another's.

Legend: F frames, S samples, O offsets.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.metrics.mouth import opening
from justdub.evaluation.sample import RATE, Sample
from justdub.evaluation.spectrum import level_db

REACH = 0.4  # seconds of offset that are tried in either direction
SHUFFLES = 32
FLOOR = 40.0  # dB below the loudest


def envelope(speech_S: np.ndarray, frames: int, rate: float) -> np.ndarray:
    """(F,) level in dB at each frame's instant, cut off `FLOOR` below the loudest."""
    step = RATE // 100
    level_T = level_db(speech_S, rate=RATE, step=step, window=round(RATE / 12.5))
    level_T = np.maximum(level_T, level_T.max() - FLOOR)
    return np.interp(np.arange(frames) / rate, np.arange(len(level_T)) / 100, level_T)


def correlations(opening_F: np.ndarray, envelope_F: np.ndarray, reach: int) -> np.ndarray:
    """(O,) Pearson's correlation with the sound `o` frames late, o = -reach..reach.

    Raises:
        BadInputError: fewer than 3 frames remain, or mouth or sound never changes.
    """
    found = []
    for offset in range(-reach, reach + 1):
        mouth = opening_F[max(0, -offset) : len(opening_F) - max(0, offset)]
        sound = envelope_F[max(0, offset) : len(envelope_F) - max(0, -offset)]
        if len(mouth) < 3 or mouth.std() < 1e-9 or sound.std() < 1e-9:
            raise BadInputError("mouth or sound never changes, or the clip is too short")
        found.append(np.corrcoef(mouth, sound)[0, 1])
    return np.array(found)


def curve(sample: Sample) -> tuple[np.ndarray, float]:
    """(correlations, frames per second) of the dub."""
    mouth = opening(sample.dub)
    rate = float(sample.dub.info.video.frame_rate)
    return correlations(mouth, envelope(sample.dub.speech, len(mouth), rate), round(REACH * rate)), rate


def best_offset(sample: Sample) -> float:
    """Milliseconds by which the sound is late where lips and sound fit best."""
    found, rate = curve(sample)
    return 1000 * (int(found.argmax()) - len(found) // 2) / rate


def together(sample: Sample) -> float:
    """Correlation as it is."""
    found, _ = curve(sample)
    return float(found[len(found) // 2])


def by_chance(sample: Sample) -> float:
    """Mean correlation with the sound turned round by random amounts of half a second or more."""
    mouth = opening(sample.dub)
    rate = float(sample.dub.info.video.frame_rate)
    sound = envelope(sample.dub.speech, len(mouth), rate)
    least = round(rate / 2)
    if len(mouth) < 3 * least:
        raise BadInputError(f"{sample.name}: too short for a shuffled control")
    turns = np.random.default_rng(0).integers(least, len(mouth) - least, SHUFFLES)
    return float(np.mean([correlations(mouth, np.roll(sound, turn), 0)[0] for turn in turns]))


_NEEDS = "mediapipe (extra `face`)"

METRICS = (
    Metric("lips_sound", "Lips with sound", "", Better.HIGHER, _NEEDS,
           "Pearson's correlation of the dub's mouth aspect ratio with its sound's level in dB at each frame.",
           together),
    Metric("lips_sound_chance", "Lips with sound, shuffled", "", Better.EVEN, _NEEDS,
           "The same with the sound turned round in time 32 times: what chance gives.", by_chance),
    Metric("lips_offset", "Lips: sound late by", "ms", Better.ZERO, _NEEDS,
           "Offset within 0.4 s at which mouth and level correlate best. Rough: level lags and leads lips by sound.",
           best_offset),
)  # fmt: skip
