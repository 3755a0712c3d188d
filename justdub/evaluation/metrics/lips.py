"""Whether the lips move with the sound: the mouth's opening against the level of speech, and against another's.

What is compared is the level between 1.5 and 4 kHz, while somebody speaks. Closed lips let the low voice through (m, b)
and cut off what is above it, so that band follows the opening best (Grant, Seitz 2000 found the same of the second and
third formant); and in pauses people smile, with the mouth open and no sound.

Legend: F frames, S samples, O offsets.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, sosfiltfilt

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.metrics.mouth import opening
from justdub.evaluation.sample import RATE, Sample
from justdub.evaluation.spectrum import level_db

REACH = 0.4  # seconds of offset that are tried in either direction
SHUFFLES = 32
FLOOR = 40.0  # dB below the loudest
BAND = (1500, 4000)  # Hz
PAUSE = 25.0  # dB below the loudest: quieter is a pause
_LEAST = 8  # frames of speech without which there is nothing to correlate


def envelope(speech_S: np.ndarray, frames: int, rate: float) -> np.ndarray:
    """(F,) level in dB at each frame's instant, cut off `FLOOR` below the loudest."""
    level_T = level_db(speech_S, rate=RATE, step=RATE // 100, window=round(RATE / 12.5))
    level_T = np.maximum(level_T, level_T.max() - FLOOR)
    return np.interp(np.arange(frames) / rate, np.arange(len(level_T)) / 100, level_T)


def bright(speech_S: np.ndarray, frames: int, rate: float) -> np.ndarray:
    """(F,) `envelope` of what lies within `BAND`."""
    return envelope(sosfiltfilt(butter(4, BAND, "bandpass", fs=RATE, output="sos"), speech_S), frames, rate)


def speaking(speech_S: np.ndarray, frames: int, rate: float) -> np.ndarray:
    """(F,) bool: whether somebody speaks at each frame's instant."""
    level_F = envelope(speech_S, frames, rate)
    return level_F > level_F.max() - PAUSE


def correlations(opening_F: np.ndarray, level_F: np.ndarray, speaking_F: np.ndarray, reach: int) -> np.ndarray:
    """(O,) Pearson's correlation over the frames with speech, with the sound `o` frames late, o = -reach..reach.

    Raises:
        BadInputError: fewer than 8 frames of speech remain, or mouth or sound never changes.
    """
    found = []
    for offset in range(-reach, reach + 1):
        later = slice(max(0, offset), len(level_F) - max(0, -offset))
        spoken = speaking_F[later]
        mouth = opening_F[max(0, -offset) : len(opening_F) - max(0, offset)][spoken]
        sound = level_F[later][spoken]
        if len(mouth) < _LEAST or mouth.std() < 1e-9 or sound.std() < 1e-9:
            raise BadInputError("mouth or sound never changes, or there is too little speech")
        found.append(np.corrcoef(mouth, sound)[0, 1])
    return np.array(found)


def _tracks(sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mouth, level and speech of the dub at each frame, and frames per second."""
    mouth = opening(sample.dub)
    rate = float(sample.dub.info.video.frame_rate)
    speech = sample.dub.speech
    return mouth, bright(speech, len(mouth), rate), speaking(speech, len(mouth), rate), rate


def best_offset(sample: Sample) -> float:
    """Milliseconds by which the sound is late where lips and sound fit best."""
    *tracks, rate = _tracks(sample)
    found = correlations(*tracks, round(REACH * rate))
    return 1000 * (int(found.argmax()) - len(found) // 2) / rate


def together(sample: Sample) -> float:
    """Correlation as it is."""
    *tracks, _ = _tracks(sample)
    return float(correlations(*tracks, 0)[0])


def by_chance(sample: Sample) -> float:
    """Mean correlation with the sound turned round by random amounts of half a second or more."""
    mouth, level, spoken, rate = _tracks(sample)
    least = round(rate / 2)
    if len(mouth) < 3 * least:
        raise BadInputError(f"{sample.name}: too short for a shuffled control")
    turns = np.random.default_rng(0).integers(least, len(mouth) - least, SHUFFLES)
    return float(np.mean([correlations(mouth, np.roll(level, turn), np.roll(spoken, turn), 0)[0] for turn in turns]))


_NEEDS = "mediapipe (extra `face`)"

METRICS = (
    Metric("lips_sound", "Lips with sound", "", Better.HIGHER, _NEEDS,
           "Pearson's correlation, over frames within 25 dB of the loudest, of the dub's mouth aspect ratio with the "
           "level of its sound between 1.5 and 4 kHz in dB.", together),
    Metric("lips_sound_chance", "Lips with sound, shuffled", "", Better.EVEN, _NEEDS,
           "The same with the sound turned round in time 32 times: what chance gives.", by_chance),
    Metric("lips_offset", "Lips: sound late by", "ms", Better.ZERO, _NEEDS,
           "Offset within 0.4 s at which mouth and level correlate best. Of a few seconds it is rough: read the mean.",
           best_offset),
)  # fmt: skip
