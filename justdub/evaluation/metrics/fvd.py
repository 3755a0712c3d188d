"""FVD: Frechet distance of features of short clips (Unterthiner et al. 2019), by an I3D of the user's.

Windows of 16 frames, one after the other, at 224x224. TorchScript with arguments `rescale`, `resize` and
`return_features` (the usual exchange file of I3D) is told that the values are -1..1 already and asked for its features.

Legend: F frames, T frames of a window, H/W height/width, 3 RGB, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, SetMetric
from justdub.evaluation.metrics.frechet import frechet
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools
from justdub.evaluation.weights import Network
from justdub.media import read_frames

WINDOW, SIDE = 16, 224
_OPTIONS = {"rescale": False, "resize": False, "return_features": True}


def features(clip: Clip, tools: Tools) -> np.ndarray:
    """(windows, D), kept by content; frames that fill no window are left out.

    Raises:
        BadInputError: shorter than 16 frames.
    """
    path = tools.path("i3d")
    network = tools.model("i3d", lambda: Network(path, tools.device))

    def make() -> dict[str, np.ndarray]:
        found = []
        for window_THW3 in read_frames(clip.info, size=(SIDE, SIDE), window=WINDOW):
            if len(window_THW3) == WINDOW:
                values = window_THW3.transpose(3, 0, 1, 2)[None].astype(np.float32) / 127.5 - 1
                found.append(network(values, **_OPTIONS).reshape(1, -1))
        if not found:
            raise BadInputError(f"{clip.path.name}: shorter than {WINDOW} frames")
        return {"features": np.concatenate(found)}

    return clip.picture_feature("i3d", make, path, path.stat().st_size)["features"]


def _fvd(samples: Sequence[Sample]) -> float:
    sources = np.concatenate([features(sample.source, sample.tools) for sample in samples])
    return frechet(sources, np.concatenate([features(sample.dub, sample.tools) for sample in samples]))


METRICS = (
    SetMetric("fvd", "FVD", "", Better.LOWER, "I3D weights (TorchScript or ONNX)",
              "Unterthiner et al. 2019, windows of 16 frames of all sources against those of all dubs.", _fvd),
)  # fmt: skip
