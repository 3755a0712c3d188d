"""Whether the dub speaks when the source speaks.

Legend: S samples, T frames of 10 ms.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import RATE
from justdub.evaluation.spectrum import level_db

BELOW = 35.0  # dB below the loudest hundredth: quieter counts as a pause
_HOLD = 15  # frames: shorter pauses are part of speech


def active(speech_S: np.ndarray) -> np.ndarray:
    """(T,) bool: frames of 10 ms that are loud enough, pauses under 0.15 s filled."""
    level_T = level_db(speech_S, rate=RATE, step=RATE // 100)
    loud = level_T > np.percentile(level_T, 99) - BELOW
    return bridged(loud, _HOLD)


def bridged(active_T: np.ndarray, longest: int) -> np.ndarray:
    """With gaps of at most `longest` frames between active ones filled."""
    places = np.flatnonzero(active_T)
    filled = active_T.copy()
    for left, right in pairwise(places):
        if 1 < right - left <= longest + 1:
            filled[left:right] = True
    return filled


def overlap(one_T: np.ndarray, other_T: np.ndarray) -> float:
    """Percent: frames in which both speak over frames in which at least one does; the shorter one is silent after
    its end. 100 if nobody speaks."""
    count = max(len(one_T), len(other_T))
    one, other = np.pad(one_T, (0, count - len(one_T))), np.pad(other_T, (0, count - len(other_T)))
    either = (one | other).sum()
    return float(100 * (one & other).sum() / either) if either else 100.0


METRICS = (
    Metric("overlap", "Speech overlap", "%", Better.HIGHER, "",
           "Time in which both source and dub are loud (within 35 dB of their loudest, pauses under 0.15 s filled) "
           "over time in which either is.",
           lambda sample: overlap(active(sample.source.speech), active(sample.dub.speech))),
)  # fmt: skip
