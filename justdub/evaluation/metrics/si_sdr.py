"""Scale-invariant signal-to-distortion ratio of the dub's sound to a clean stem.

Le Roux, Wisdom, Erdogan, Hershey 2019, without their mean: 10 log10(|a s|^2 / |a s - x|^2), a = <x, s> / <s, s>.

Legend: S samples.
"""

from __future__ import annotations

import numpy as np

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import Sample

CEILING = 100.0  # dB: what identical sounds count as


def si_sdr(clean_S: np.ndarray, heard_S: np.ndarray) -> float:
    """Decibels, -100..100; both of one length, not silent."""
    clean, heard = np.asarray(clean_S, np.float64), np.asarray(heard_S, np.float64)
    target = (heard @ clean) / max(clean @ clean, 1e-20) * clean
    noise = target - heard
    ratio = max(target @ target, 1e-20) / max(noise @ noise, 1e-20)
    return float(np.clip(10 * np.log10(ratio), -CEILING, CEILING))


def _of(sample: Sample) -> float:
    clean, heard = sample.needed("stem").speech, sample.dub.speech
    count = min(len(clean), len(heard))
    if count < 0.9 * max(len(clean), len(heard)):
        raise BadInputError(f"{sample.name}: the stem and the dub differ in length by more than a tenth")
    return si_sdr(clean[:count], heard[:count])


METRICS = (
    Metric("si_sdr", "SI-SDR", "dB", Better.HIGHER, "a clean stem of each dub",
           "Le Roux et al. 2019, of the dub's sound at 16 kHz to the clean speech that was mixed into it.", _of),
)  # fmt: skip
