"""DNSMOS P.835: predicted opinion of speech, background and the whole (Reddy, Gopal, Cutler 2022).

The network (sig_bak_ovr.onnx) hears 9.01 s at 16 kHz and gives raw scores, which the published polynomials map to
1..5. Shorter clips are repeated, longer ones heard every second, as published.

Legend: S samples.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.needed import need
from justdub.evaluation.sample import RATE, Sample
from justdub.evaluation.weights import Network, require_onnx

WINDOW = 144160
_POLYNOMIALS = {
    "speech": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}


def dnsmos(network: Network, speech_S: np.ndarray) -> dict[str, float]:
    """speech, background and overall, 1..5.

    Raises:
        BadInputError: the network does not give three scores.
    """
    repeated = np.tile(speech_S, max(1, -(-WINDOW // len(speech_S)))).astype(np.float32)
    raw = []
    for start in range(0, len(repeated) - WINDOW + 1, RATE):
        scores = network(repeated[None, start : start + WINDOW]).reshape(-1)
        if len(scores) != 3:
            raise BadInputError(f"{network.path} gives {len(scores)} scores", expected="3, as sig_bak_ovr.onnx")
        raw.append(scores)
    return {
        name: float(np.mean([np.polyval(polynomial, scores[place]) for scores in raw]))
        for place, (name, polynomial) in enumerate(_POLYNOMIALS.items())
    }


def _of(sample: Sample, name: str) -> float:
    scripted = sample.tools.weights.dnsmos and not sample.tools.weights.dnsmos.endswith(".onnx")
    path, *_ = need(lambda: sample.tools.path("dnsmos"), *(() if scripted else (require_onnx,)))
    network = sample.tools.model("dnsmos", lambda: Network(path, sample.tools.device))

    def make() -> dict[str, np.ndarray]:
        return {key: np.float64(value) for key, value in dnsmos(network, sample.dub.speech).items()}

    return float(sample.dub.sound_feature("dnsmos", make, path, path.stat().st_size)[name])


def _metric(key: str, title: str, name: str) -> Metric:
    definition = f"P.835 opinion of the {name} predicted for the dub's sound, 1..5 (Reddy et al. 2022)."
    return Metric(key, title, "", Better.HIGHER, "DNSMOS weights (ONNX)", definition, lambda s: _of(s, name))


METRICS = (
    _metric("dnsmos", "DNSMOS", "overall"),
    _metric("dnsmos_speech", "DNSMOS, speech", "speech"),
    _metric("dnsmos_background", "DNSMOS, background", "background"),
)
