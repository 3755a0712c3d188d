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
    found, last = [], None
    for place, (one, other) in enumerate(zip(one_FHW, other_FHW, strict=True)):  # a frame at once stays in cache
        difference = np.subtract(other, one, dtype=np.float64)
        if last is not None:
            change = np.abs(difference - last)
            if away_FHW is not None:
                change = change[~(away_FHW[place] | away_FHW[place - 1])]
            found.append(change.mean() if change.size else np.nan)
        last = difference
    return np.array(found)


_DEFINITION = "Mean over pixels{where} and frames of |(dub[t+1] - dub[t]) - (source[t+1] - source[t])|, on luma 0..255."

METRICS = (
    Metric("flicker", "Flicker outside the face", "levels", Better.LOWER, "a face mask, or mediapipe",
           _DEFINITION.format(where=" outside the face"), lambda s: outside(s, "flicker")),
    Metric("flicker_frame", "Flicker, whole frame", "levels", Better.LOWER, "", _DEFINITION.format(where=""),
           lambda s: compared(s)["flicker"]),
)  # fmt: skip
