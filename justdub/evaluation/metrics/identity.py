"""CSIM: whether the dubbed face is the source's person, by an ArcFace network of the user's.

Deng et al. 2019: five points of the face are moved onto a template of 112x112 pixels, RGB is scaled to -1..1, vectors
are compared by their cosine. Frame i of the dub is compared with frame i of the source.

Legend: F frames, L landmarks, K points (5), E embedding, H/W height/width, 3 RGB.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError
from justdub.evaluation.faces import landmarks, require
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.needed import need
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools
from justdub.evaluation.weights import Network

SIDE = 112
# Eyes, nose and corners of the mouth on the template, x and y in pixels; the left of the picture first.
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
_POINTS = ((33, 133), (362, 263), (1,), (61,), (291,))  # landmarks whose mean is each of the five
_EVERY = 5  # frames: a face does not become another within a fifth of a second


def similarity_transform(points_K2: np.ndarray, template_K2: np.ndarray) -> np.ndarray:
    """(2, 3) rotation, scale and shift that bring `points` nearest to `template` (Umeyama 1991)."""
    middle, target = points_K2.mean(0), template_K2.mean(0)
    centred, wanted = points_K2 - middle, template_K2 - target
    u, scales, v = np.linalg.svd(wanted.T @ centred)
    mirrored = np.diag([1.0, np.sign(np.linalg.det(u @ v)) or 1.0])
    rotation = u @ mirrored @ v
    scale = (scales * np.diag(mirrored)).sum() / (centred**2).sum()
    return np.hstack((scale * rotation, (target - scale * rotation @ middle)[:, None]))


def aligned(frame_HW3: np.ndarray, points_L2: np.ndarray) -> np.ndarray:
    """uint8 (112, 112, 3): the face on the template."""
    from PIL import Image

    five = np.array([points_L2[list(group)].mean(0) for group in _POINTS])
    forward = np.vstack((similarity_transform(five, TEMPLATE), [0, 0, 1]))
    back = np.linalg.inv(forward)[:2].reshape(-1)  # PIL asks where each pixel of the result comes from
    picture = Image.fromarray(np.ascontiguousarray(frame_HW3))
    return np.asarray(picture.transform((SIDE, SIDE), Image.Transform.AFFINE, tuple(back), Image.Resampling.BILINEAR))


def embeddings(clip: Clip, tools: Tools) -> np.ndarray:
    """(F', E) of unit length, every fifth frame; NaN where there is no face."""
    network, _ = need(lambda: tools.model("arcface", lambda: Network(tools.path("arcface"), tools.device)), require)
    path = tools.path("arcface")
    points_FL2 = landmarks(clip)

    def make() -> dict[str, np.ndarray]:
        found, place = [], 0
        for chunk in clip.frames():
            for frame in chunk:
                if place % _EVERY == 0 and place < len(points_FL2):
                    found.append(_embed(network, frame, points_FL2[place]))
                place += 1
        width = max((len(vector) for vector in found if vector is not None), default=1)
        blank = np.full(width, np.nan, np.float32)
        return {"vectors": np.stack([blank if vector is None else vector for vector in found])}

    return clip.picture_feature("arcface", make, path, path.stat().st_size, clip.longest)["vectors"]


def _embed(network: Network, frame_HW3: np.ndarray, points_L2: np.ndarray) -> np.ndarray | None:
    if not np.isfinite(points_L2[0, 0]):
        return None
    picture = (aligned(frame_HW3, points_L2).astype(np.float32) - 127.5) / 127.5
    vector = network(picture.transpose(2, 0, 1)[None]).reshape(-1)
    return vector / max(np.linalg.norm(vector), 1e-12)


def csim(sample: Sample) -> float:
    """Mean cosine over frames with a face in both clips."""
    one, other = (embeddings(clip, sample.tools) for clip in (sample.source, sample.dub))
    count = min(len(one), len(other))
    cosines = (one[:count] * other[:count]).sum(1)
    if not np.isfinite(cosines).any():
        raise BadInputError(f"{sample.name}: no frame with a face in both clips")
    return float(np.nanmean(cosines))


METRICS = (
    Metric("csim", "CSIM", "", Better.HIGHER, "ArcFace weights (TorchScript or ONNX), mediapipe",
           "Deng et al. 2019: mean over every fifth frame of the cosine of the vectors of the aligned faces.", csim),
)  # fmt: skip
