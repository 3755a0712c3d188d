"""Spectra and levels that several metrics of sound share.

Legend: S samples, T frames, M mel bands, B frequency bins.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def mel_filters(rate: int, size: int, bands: int) -> np.ndarray:
    """(M, B) triangles of height 1, evenly spaced in mel (O'Shaughnessy) from 0 to half the rate."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    bins = np.arange(size // 2 + 1) * rate / size
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rise, fall), 0, None)


def framed(sound_S: np.ndarray, window: int, step: int) -> np.ndarray:
    """(T, window) pieces centred on 0, step, 2 step, ... with silence around the sound."""
    padded = np.pad(np.asarray(sound_S, np.float64), window // 2)
    count = 1 + len(sound_S) // step
    padded = np.pad(padded, (0, max(0, (count - 1) * step + window - len(padded))))
    return np.lib.stride_tricks.sliding_window_view(padded, window)[: (count - 1) * step + 1 : step]


def mel_power(sound_S: np.ndarray, *, rate: int, bands: int, window: int, step: int) -> np.ndarray:
    """(T, M) power in mel bands, Hann windows."""
    spectrum = np.fft.rfft(framed(sound_S, window, step) * np.hanning(window + 1)[:-1])
    return np.abs(spectrum) ** 2 @ mel_filters(rate, window, bands).T


def level_db(sound_S: np.ndarray, *, rate: int, step: int, window: int = 0) -> np.ndarray:
    """(T,) level in dB of full scale every `step` samples, over Hann windows of `window` samples (two steps)."""
    window = window or 2 * step
    weight = np.hanning(window + 1)[:-1]
    power = (framed(sound_S, window, step) ** 2) @ weight / weight.sum()
    return 10 * np.log10(np.maximum(power, 1e-12))
