"""Sound against picture: what the container says, and how late the dub's sound is where it is the source's own.

Legend: S samples.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import correlate, correlation_lags

from justdub.evaluation.metric import Better, Metric, NotComputed
from justdub.evaluation.sample import RATE, Sample
from justdub.media import sound_span

REACH = 1.0  # seconds: the largest delay that is looked for
SAME = 0.3  # share of the energy from which on two sounds count as the same recording


def start_offset(sample: Sample) -> float:
    """Milliseconds by which the first audible sample comes after the first frame; negative: before it."""
    info = sample.dub.info
    if info.audio is None:
        sample.dub.sound()  # raises
    return float(1000 * (sound_span(info)[0] - info.video.start))


def end_offset(sample: Sample) -> float:
    """Milliseconds by which the sound outlasts the picture; negative: it ends before."""
    info = sample.dub.info
    if info.audio is None:
        sample.dub.sound()  # raises
    return float(1000 * (sound_span(info)[1] - info.video.start - info.duration))


def delay(one_S: np.ndarray, other_S: np.ndarray) -> tuple[float, float]:
    """Seconds by which `other` comes after `one`, and the correlation -1..1 at that delay."""
    one, other = np.asarray(one_S, np.float64), np.asarray(other_S, np.float64)
    product = correlate(other, one, method="fft")
    lags = correlation_lags(len(other), len(one))
    near = np.abs(lags) <= REACH * RATE
    best = int(np.argmax(product[near]))
    lag = int(lags[near][best])
    first, second = (one[: len(one) - lag], other[lag:]) if lag >= 0 else (one[-lag:], other[:lag])
    count = min(len(first), len(second))
    power = np.sqrt((first[:count] ** 2).sum() * (second[:count] ** 2).sum())
    return lag / RATE, float(product[near][best] / max(power, 1e-12))


def sound_delay(sample: Sample) -> float | NotComputed:
    """Milliseconds by which the dub's sound comes after the source's, where it is the same recording."""
    seconds, likeness = delay(sample.source.speech, sample.dub.speech)
    if likeness < SAME:
        return NotComputed("the dub's sound is not the source's: nothing to align")
    return 1000 * seconds


METRICS = (
    Metric("av_start", "Sound starts after picture", "ms", Better.ZERO, "",
           "First audible sample minus first frame, by the container's clock, codec priming left out.", start_offset),
    Metric("av_end", "Sound ends after picture", "ms", Better.ZERO, "",
           "End of the last sample minus end of the last frame, by the container's clock.", end_offset),
    Metric("sound_delay", "Same sound, later by", "ms", Better.ZERO, "",
           "Lag of the largest cross-correlation of source and dub within 1 s, on the pictures' clocks; only where "
           "both hold the same recording (correlation 0.3 or more).", sound_delay),
)  # fmt: skip
