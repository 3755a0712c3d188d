"""Flicker that the source has not: how differently source and dub change from frame to frame.

Legend: F frames, H/W height/width.
"""

from __future__ import annotations

import numpy as np

from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.pictures import compared, outside


def flicker(one_FHW: np.ndarray, other_FHW: np.ndarray, away_FHW: np.ndarray | None = None) -> np.ndarray:
    """(F - 1,) mean |change of other - change of one| between frames, grey levels 0..255.

    A difference that stays the same in all frames counts nothing; independent noise of deviation s gives
    2 s / sqrt(pi).
    """
    change = np.abs(np.diff(np.asarray(other_FHW, np.float64) - one_FHW, axis=0))
    if away_FHW is None:
        return change.mean((1, 2))
    kept = ~(away_FHW[1:] | away_FHW[:-1])
    with np.errstate(invalid="ignore"):
        return (change * kept).sum((1, 2)) / kept.sum((1, 2))


_DEFINITION = "Mean over pixels{where} and frames of |(dub[t+1] - dub[t]) - (source[t+1] - source[t])|, on luma 0..255."

METRICS = (
    Metric("flicker", "Flicker outside the face", "levels", Better.LOWER, "a face mask, or mediapipe",
           _DEFINITION.format(where=" outside the face"), lambda s: outside(s, "flicker")),
    Metric("flicker_frame", "Flicker, whole frame", "levels", Better.LOWER, "", _DEFINITION.format(where=""),
           lambda s: compared(s)["flicker"]),
)  # fmt: skip
