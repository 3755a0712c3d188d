"""Mel cepstral distortion of the dub's speech to a true recording of the line, aligned by dynamic time warping.

Kubichek 1993: 10 sqrt(2) / ln 10 times the distance of mel cepstra 1..12 (without the energy), mean over the path of
Sakoe and Chiba 1978 (steps 1:0, 0:1, 1:1, no weights). MCD-SL (Chen et al. 2022, V2C): that times
longer / shorter length, so that a dub of another speed costs more.

Figures depend on the spectrogram; this one (80 mel bands to 8 kHz, 25 ms every 12.5 ms, log power) is described here so
that nobody compares them with another's to the second digit.

Legend: S samples, T frames, M mel bands, K coefficients.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import RATE, Sample
from justdub.evaluation.spectrum import mel_power

COEFFICIENTS = 12
SCALE = 10 * np.sqrt(2) / np.log(10)


def cepstrum(speech_S: np.ndarray) -> np.ndarray:
    """(T, 12) mel cepstrum of 16 kHz sound, coefficients 1..12 of the natural logarithm of the amplitudes."""
    power_TM = mel_power(speech_S, rate=RATE, bands=80, window=400, step=200)
    return dct(0.5 * np.log(np.maximum(power_TM, 1e-10)), type=2, norm="ortho", axis=1)[
        :, 1 : COEFFICIENTS + 1
    ] / np.sqrt(power_TM.shape[1] / 2)


def path(cost_AB: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in both sequences along the cheapest path from corner to corner.

    The table is filled along its anti-diagonals, all places of one at once.
    """
    rows, columns = cost_AB.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        before = np.minimum(np.minimum(total[i - 1, j - 1], total[i - 1, j]), total[i, j - 1])
        total[i, j] = cost_AB[i - 1, j - 1] + before
    i, j = rows, columns
    steps = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        i, j = min(((i - 1, j - 1), (i - 1, j), (i, j - 1)), key=lambda place: total[place])
        steps.append((i - 1, j - 1))
    places = np.array(steps[::-1])
    return places[:, 0], places[:, 1]


def mcd(one_TK: np.ndarray, other_TK: np.ndarray) -> float:
    """Decibels, 0 for equal sequences."""
    difference = (one_TK**2).sum(1)[:, None] + (other_TK**2).sum(1)[None] - 2 * one_TK @ other_TK.T
    cost_AB = np.sqrt(np.maximum(difference, 0))
    i, j = path(cost_AB)
    # The sum of squares loses small differences of equal frames: the path's own costs are taken exactly.
    return float(SCALE * np.sqrt(((one_TK[i] - other_TK[j]) ** 2).sum(1)).mean())


def _both(sample: Sample) -> tuple[float, float]:
    """(MCD, longer / shorter), of the true line and the dub, silence at the ends cut off."""
    one, other = (cepstrum(trimmed(clip.speech)) for clip in (sample.needed("truth"), sample.dub))
    return mcd(one, other), max(len(one), len(other)) / min(len(one), len(other))


def trimmed(speech_S: np.ndarray) -> np.ndarray:
    """Without the silence before and after: frames of 25 ms more than 40 dB below the loudest."""
    frames = max(1, len(speech_S) // 200)
    level = np.array([np.square(speech_S[k * 200 : k * 200 + 400]).mean() for k in range(frames)])
    loud = np.flatnonzero(level > level.max() * 1e-4)
    return speech_S[loud[0] * 200 : loud[-1] * 200 + 400]


_NEEDS = "true recordings of the lines, in the language of the dub"

METRICS = (
    Metric("mcd", "MCD", "dB", Better.LOWER, _NEEDS,
           "Kubichek 1993, 12 mel cepstral coefficients without energy, aligned by dynamic time warping.",
           lambda sample: _both(sample)[0]),
    Metric("mcd_sl", "MCD-SL", "dB", Better.LOWER, _NEEDS,
           "Chen et al. 2022 (V2C): MCD times the ratio of the longer to the shorter speech.",
           lambda sample: float(np.prod(_both(sample)))),
)  # fmt: skip
