"""Whether the dub is loud and quiet where the source is.

Published as Int-Corr without a definition; the reading here: Pearson's correlation of the two intensity contours.

Legend: S samples, T frames of 10 ms.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import RATE
from justdub.evaluation.spectrum import level_db

FLOOR = 60.0  # dB below the loudest: what is quieter counts as that


def contour(speech_S: np.ndarray) -> np.ndarray:
    """(T,) intensity in dB every 10 ms over Hann windows of 40 ms, cut off `FLOOR` below the loudest."""
    level_T = level_db(speech_S, rate=RATE, step=RATE // 100, window=RATE // 25)
    return np.maximum(level_T, level_T.max() - FLOOR)


def intensity_correlation(one_S: np.ndarray, other_S: np.ndarray) -> float:
    """-1..1, up to the end of the shorter sound.

    Raises:
        BadInputError: a contour is constant.
    """
    one, other = contour(one_S), contour(other_S)
    count = min(len(one), len(other))
    one, other = one[:count], other[:count]
    if count < 3 or one.std() < 1e-9 or other.std() < 1e-9:
        raise BadInputError("an intensity contour is constant")
    return float(np.corrcoef(one, other)[0, 1])


METRICS = (
    Metric("int_corr", "Int-Corr", "", Better.HIGHER, "",
           "Pearson's correlation of the intensity contours of source and dub (dB every 10 ms, 60 dB range). "
           "Published without a definition; this one is ours.",
           lambda sample: intensity_correlation(sample.source.speech, sample.dub.speech)),
)  # fmt: skip
