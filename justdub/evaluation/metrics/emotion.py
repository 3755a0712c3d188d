"""Whether the dub carries the emotion: EMO-SIM by an encoder, EMO-ACC by a classifier, both the user's.

Any network from 16 kHz sound (1, S) to a vector, or to frames (1, T, D), which are then averaged.

Legend: S samples, T frames, D dimensions.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.needed import need
from justdub.evaluation.sample import Clip, Sample
from justdub.evaluation.tools import Tools
from justdub.evaluation.weights import Network


def _vector(clip: Clip, tools: Tools, name: str) -> np.ndarray:
    path = tools.path(name)
    network = tools.model(name, lambda: Network(path, tools.device))

    def make() -> dict[str, np.ndarray]:
        found = np.asarray(network(clip.speech[None].astype(np.float32)), np.float64)
        return {"vector": found.reshape(-1, found.shape[-1]).mean(0)}

    vector = clip.sound_feature(name, make, path, path.stat().st_size)["vector"]
    if not np.isfinite(vector).all():
        raise BadInputError(f"{clip.path.name}: the {name} network gives values that are no numbers")
    return vector


def similarity(sample: Sample) -> float:
    """Percent: 100 times the cosine of the dub and the true line, or the source where no true line is given."""
    other = sample.truth or sample.source
    one, two = (_vector(clip, sample.tools, "emotion") for clip in (sample.dub, other))
    return 100 * float(one @ two / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-12))


def _labelled(sample: Sample) -> None:
    """Raises MissingError where the classes have no names or the clip has none of them."""
    labels = sample.tools.emotion_labels
    if not labels:
        raise MissingError("the classes have no names", remedy="emotion_labels: [...] in RUN.yaml")
    if sample.emotion not in labels:
        raise MissingError(
            f"the clip's emotion {sample.emotion!r} is not among the labels",
            remedy="a column `emotion` in --texts FILE",
        )


def accuracy(sample: Sample) -> float:
    """100 if the classifier hears the emotion that the clip is labelled with, else 0."""
    labels = sample.tools.emotion_labels
    need(lambda: sample.tools.path("emotion_classes"), lambda: _labelled(sample))
    scores = _vector(sample.dub, sample.tools, "emotion_classes")
    if len(labels) != len(scores):
        raise MissingError(
            f"the classifier has {len(scores)} classes, {len(labels)} are named",
            remedy="emotion_labels: [...] in RUN.yaml",
        )
    return 100.0 * (labels[int(scores.argmax())] == sample.emotion)


METRICS = (
    Metric("emo_sim", "EMO-SIM", "%", Better.HIGHER, "an emotion encoder (TorchScript or ONNX)",
           "Cosine of the encoder's vectors of the dub and of the true line (without one: the source), in percent.",
           similarity),
    Metric("emo_acc", "EMO-ACC", "%", Better.HIGHER, "an emotion classifier and labels",
           "Share of clips in which the classifier hears the labelled emotion.", accuracy),
)  # fmt: skip
