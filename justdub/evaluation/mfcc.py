"""The mel cepstrum that SyncNet was trained on (that of the package python_speech_features, with its defaults).

Legend: S samples, T frames, B frequency bins, K coefficients.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dct

RATE, WINDOW, STEP, SIZE = 16000, 400, 160, 512
BANDS, COEFFICIENTS, LIFTER, EMPHASIS = 26, 13, 22, 0.97


def _filters() -> np.ndarray:
    """(26, B) triangles between whole bins, on the mel scale from 0 to 8 kHz."""
    mels = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2)
    edges = np.floor((SIZE + 1) * 700 * (10 ** (mels / 2595) - 1) / RATE)
    bins = np.arange(SIZE // 2 + 1)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.where(bins < edges[1:-1, None], rise, fall).clip(0)


def mfcc(samples_S: np.ndarray) -> np.ndarray:
    """(T, 13) of 16 kHz sound in whole numbers' scale (full scale 32768), 100 frames/s; the first is the log energy."""
    sound = np.asarray(samples_S, np.float64)
    sound = np.append(sound[:1], sound[1:] - EMPHASIS * sound[:-1])
    count = 1 + max(0, -(-(len(sound) - WINDOW) // STEP))
    padded = np.pad(sound, (0, max(0, (count - 1) * STEP + WINDOW - len(sound))))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP][:count]
    power_TB = np.abs(np.fft.rfft(pieces, SIZE)) ** 2 / SIZE
    energy_T = power_TB.sum(1)
    tiny = np.finfo(float).eps
    bands = np.maximum(power_TB @ _filters().T, tiny)
    found = dct(np.log(bands), type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    found = found * (1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER))
    found[:, 0] = np.log(np.maximum(energy_T, tiny))
    return found
