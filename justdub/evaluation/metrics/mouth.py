"""How far the mouth opens, and how varied that is.

Mouth aspect ratio: mean of three heights of the inner lips over their width, of mediapipe's face mesh. MAR Div is
published without a definition; here it is the deviation of the ratio over frames.

Legend: F frames, L landmarks, 2 x and y.
"""

from __future__ import annotations

import numpy as np

from justdub.evaluation.faces import filled, landmarks
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import Clip, Sample

_HEIGHTS = ((81, 178), (13, 14), (311, 402))
_WIDTH = (78, 308)


def ratios(points_FL2: np.ndarray) -> np.ndarray:
    """(F,) mouth aspect ratio, 0 closed."""

    def distance(one: int, other: int) -> np.ndarray:
        return np.linalg.norm(points_FL2[:, one] - points_FL2[:, other], axis=-1)

    return np.mean([distance(*pair) for pair in _HEIGHTS], axis=0) / np.maximum(distance(*_WIDTH), 1e-6)


def opening(clip: Clip) -> np.ndarray:
    """(F,) mouth aspect ratio of a clip; see `faces.landmarks` for what is raised."""
    return ratios(filled(landmarks(clip)))


def diversity_ratio(sample: Sample) -> float:
    """Deviation of the dub's mouth over that of the source's."""
    return float(opening(sample.dub).std() / max(opening(sample.source).std(), 1e-6))


_NEEDS = "mediapipe (extra `face`)"

METRICS = (
    Metric("mar", "MAR", "", Better.EVEN, _NEEDS, "Mean over frames of the dub's mouth aspect ratio.",
           lambda sample: float(opening(sample.dub).mean())),
    Metric("mar_div", "MAR Div", "", Better.HIGHER, _NEEDS,
           "Standard deviation over frames of the dub's mouth aspect ratio. Published without a definition.",
           lambda sample: float(opening(sample.dub).std())),
    Metric("mar_div_ratio", "MAR Div, dub / source", "", Better.EVEN, _NEEDS,
           "Deviation of the dub's mouth aspect ratio over that of the source's; 1 moves as much.", diversity_ratio),
)  # fmt: skip
