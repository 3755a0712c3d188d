"""Peak signal-to-noise ratio of the dubbed picture against the source's.

Legend: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

import numpy as np

from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.pictures import compared, outside

CEILING = 100.0  # dB: what identical pictures count as, since infinity has no mean


def squared_error(one_FHW3: np.ndarray, other_FHW3: np.ndarray, away_FHW: np.ndarray | None = None) -> np.ndarray:
    """(F,) mean squared difference of uint8 pictures, grey levels squared; where `away` is False, if given.

    NaN for a frame of which nothing is left.
    """
    found = []
    for place, (one, other) in enumerate(zip(one_FHW3, other_FHW3, strict=True)):  # a frame at once stays in cache
        change_HW3 = np.subtract(one, other, dtype=np.float32)
        squares_HW = np.einsum("hwc,hwc->hw", change_HW3, change_HW3)  # whole numbers below 2^24: exact
        if away_FHW is not None:
            squares_HW = squares_HW[~away_FHW[place]]
        found.append(squares_HW.sum(dtype=np.float64) / (3 * squares_HW.size) if squares_HW.size else np.nan)
    return np.array(found)


def decibels(error: float) -> float:
    """10 log10(255^2 / error), at most `CEILING`."""
    return min(CEILING, 10 * np.log10(255**2 / max(error, 1e-12)))


_DEFINITION = "10 log10(255^2 / mean squared error) of RGB over all frames{where}; identical pictures count as 100 dB."

METRICS = (
    Metric(
        "psnr", "PSNR outside the face", "dB", Better.HIGHER, "a face mask, or mediapipe",
        _DEFINITION.format(where=", pixels of the face left out"), lambda s: decibels(outside(s, "error")),
    ),
    Metric(
        "psnr_frame", "PSNR, whole frame", "dB", Better.HIGHER, "", _DEFINITION.format(where=""),
        lambda s: decibels(compared(s)["error"]),
    ),
)  # fmt: skip
