"""FID: Frechet distance of features of single frames (Heusel et al. 2017), by an Inception of the user's.

TorchScript with an argument `return_features` gets uint8 pictures (B, 3, H, W) as they are (the usual exchange file
of Inception); any other network gets float32 pictures of 299x299 in -1..1.

Legend: B batch, F frames, H/W height/width, 3 RGB, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from justdub.evaluation.metric import Better, SetMetric
from justdub.evaluation.metrics.frechet import frechet
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools
from justdub.evaluation.weights import Network
from justdub.media import resize_frames

EVERY = 5  # frames


def features(clip: Clip, tools: Tools) -> np.ndarray:
    """(F', D) of every fifth frame, kept by content."""
    path = tools.path("inception")
    network = tools.model("inception", lambda: Network(path, tools.device))

    def make() -> dict[str, np.ndarray]:
        found, place = [], 0
        for chunk_FHW3 in clip.frames():
            chosen = chunk_FHW3[(-place) % EVERY :: EVERY]
            place += len(chunk_FHW3)
            if len(chosen):
                found.append(network(_pictures(network, chosen), return_features=True).reshape(len(chosen), -1))
        return {"features": np.concatenate(found)}

    return clip.picture_feature("inception", make, path, path.stat().st_size, clip.longest)["features"]


def _pictures(network: Network, frames_FHW3: np.ndarray) -> np.ndarray:
    if "return_features" in network.arguments:
        return frames_FHW3.transpose(0, 3, 1, 2)
    return resize_frames(frames_FHW3, (299, 299)).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1


def _fid(samples: Sequence[Sample]) -> float:
    return frechet(*(
        np.concatenate([features(clip, s.tools) for s, clip in zip(samples, clips, strict=True)])
        for clips in ([s.source for s in samples], [s.dub for s in samples])
    ))  # fmt: skip


METRICS = (
    SetMetric("fid", "FID", "", Better.LOWER, "Inception weights (TorchScript or ONNX)",
              "Heusel et al. 2017, every fifth frame of all sources against that of all dubs.", _fid),
)  # fmt: skip
