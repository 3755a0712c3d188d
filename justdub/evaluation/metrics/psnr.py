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
    squares_FHW = ((one_FHW3.astype(np.float32) - other_FHW3) ** 2).mean(-1)
    if away_FHW is None:
        return squares_FHW.mean((1, 2), dtype=np.float64)
    kept = ~away_FHW
    with np.errstate(invalid="ignore"):
        return (squares_FHW * kept).sum((1, 2), dtype=np.float64) / kept.sum((1, 2))


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
