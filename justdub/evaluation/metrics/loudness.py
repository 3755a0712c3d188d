"""Loudness, true peak and clipping of the dub's sound.

ITU-R BS.1770-5 / EBU R 128: K-weighting, blocks of 400 ms with 75 % overlap, gates at -70 LUFS and 10 LU below the
mean of what is left. True peak: the largest value of the sound at four times its rate.

Legend: C channels, S samples, B blocks.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter, resample_poly

from justdub.errors import BadInputError
from justdub.evaluation.metric import Better, Metric
from justdub.evaluation.sample import Sample

RATE = 48000  # Hz: the rate for which BS.1770 prints its filters
# Annex 1, tables 1 and 2: the head's shelf, then the high pass.
_SHELF = ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585))
_HIGH_PASS = ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621))
_BLOCK, _STEP = int(0.4 * RATE), int(0.1 * RATE)


def _blocks(sound_CS: np.ndarray) -> np.ndarray:
    """(B,) K-weighted power of every block, channels summed."""
    weighted_CS = lfilter(*_HIGH_PASS, lfilter(*_SHELF, np.asarray(sound_CS, np.float64)))
    power_S = np.concatenate(([0.0], np.cumsum((weighted_CS**2).sum(0))))
    starts = np.arange(0, sound_CS.shape[1] - _BLOCK + 1, _STEP)
    return (power_S[starts + _BLOCK] - power_S[starts]) / _BLOCK


def _level(power: np.ndarray | float) -> np.ndarray | float:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-20))


def lufs(sound_CS: np.ndarray) -> float:
    """Integrated loudness of 48 kHz sound, one or two channels, full scale 1.

    Raises:
        BadInputError: shorter than 0.4 s, or nothing above -70 LUFS.
    """
    power_B = _blocks(sound_CS)
    heard_B = power_B[_level(power_B) > -70]
    if not len(heard_B):
        raise BadInputError("no 0.4 s of sound above -70 LUFS")
    return float(_level(heard_B[_level(heard_B) > _level(heard_B.mean()) - 10].mean()))


def true_peak(sound_CS: np.ndarray) -> float:
    """dB relative to full scale."""
    return float(20 * np.log10(max(np.abs(resample_poly(sound_CS, 4, 1, axis=1)).max(), 1e-10)))


def clipped(sound_CS: np.ndarray) -> float:
    """Percent of the samples within runs of three or more at full scale (0.999) in a row."""
    full = np.abs(sound_CS) >= 0.999
    padded = np.pad(full, ((0, 0), (2, 2)))
    run = padded[:, 2:-2] & (
        (padded[:, :-4] & padded[:, 1:-3]) | (padded[:, 1:-3] & padded[:, 3:-1]) | (padded[:, 3:-1] & padded[:, 4:])
    )
    return float(100 * run.mean())


def _sound(sample: Sample) -> np.ndarray:
    return sample.dub.sound(RATE, 2)


def loudness_change(sample: Sample) -> float:
    """LU by which the dub is louder than the source."""
    return lufs(_sound(sample)) - lufs(sample.source.sound(RATE, 2))


METRICS = (
    Metric("loudness", "Loudness", "LUFS", Better.EVEN, "", "Integrated loudness, EBU R 128 / ITU-R BS.1770.",
           lambda sample: lufs(_sound(sample))),
    Metric("loudness_change", "Louder than the source by", "LU", Better.ZERO, "",
           "Integrated loudness of dub minus source, EBU R 128.", loudness_change),
    Metric("true_peak", "True peak", "dBTP", Better.EVEN, "", "ITU-R BS.1770 annex 2, four times oversampled.",
           lambda sample: true_peak(_sound(sample))),
    Metric("clipping", "Clipped", "%", Better.LOWER, "",
           "Share of samples in runs of three or more at 0.999 of full scale.", lambda sample: clipped(_sound(sample))),
)  # fmt: skip
