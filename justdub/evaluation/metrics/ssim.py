"""Structural similarity, at one scale and at five.

Wang, Bovik, Sheikh, Simoncelli 2004 (SSIM: Gaussian window of 11 pixels, sigma 1.5, K 0.01 and 0.03, on luma); Wang,
Simoncelli, Bovik 2003 (MS-SSIM: weights of the scales). Windows that touch the face are left out where a mask is given.

Legend: F frames, H/W height/width, h/w of the map of whole windows.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d, maximum_filter1d

from justdub.evaluation.metric import Better, Metric, NotComputed
from justdub.evaluation.pictures import compared, outside

WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_EDGE = WINDOW // 2
SMALLEST = (WINDOW - 1) * 2 ** (len(SCALES) - 1) + 1  # pixels of the shorter side for five scales
_PLACES = np.arange(WINDOW) - _EDGE
_WEIGHTS = np.exp(-(_PLACES**2) / (2 * SIGMA**2))
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _whole(map_FHW: np.ndarray) -> np.ndarray:
    return map_FHW[:, _EDGE:-_EDGE, _EDGE:-_EDGE]


def _blur(images_FHW: np.ndarray) -> np.ndarray:
    """Fhw: weighted means over every window that lies within the picture."""
    return _whole(correlate1d(correlate1d(images_FHW, _WEIGHTS, axis=1), _WEIGHTS, axis=2))


def _maps(one_FHW: np.ndarray, other_FHW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and its contrast-structure factor, Fhw."""
    mean, mean2 = _blur(one_FHW), _blur(other_FHW)
    variance = _blur(one_FHW**2) - mean**2
    variance2 = _blur(other_FHW**2) - mean2**2
    covariance = _blur(one_FHW * other_FHW) - mean * mean2
    structure = (2 * covariance + C2) / (variance + variance2 + C2)
    return structure * (2 * mean * mean2 + C1) / (mean**2 + mean2**2 + C1), structure


def _means(map_Fhw: np.ndarray, away_FHW: np.ndarray | None) -> np.ndarray:
    """(F,) means over the windows that do not touch `away` (NaN where none is left)."""
    if away_FHW is None:
        return map_Fhw.mean((1, 2), dtype=np.float64)
    touched = maximum_filter1d(maximum_filter1d(away_FHW.astype(np.uint8), WINDOW, axis=1), WINDOW, axis=2)
    kept = _whole(touched) == 0
    with np.errstate(invalid="ignore"):
        return (map_Fhw * kept).sum((1, 2), dtype=np.float64) / kept.sum((1, 2))


def _halved(images_FHW: np.ndarray, reduce=np.mean) -> np.ndarray:
    height, width = (side // 2 * 2 for side in images_FHW.shape[1:])
    parts = images_FHW[:, :height, :width].reshape(len(images_FHW), height // 2, 2, width // 2, 2)
    return reduce(parts, axis=(2, 4))


def similarities(
    one_FHW: np.ndarray, other_FHW: np.ndarray, away_FHW: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(F,) SSIM and (F,) MS-SSIM of grey pictures 0..255.

    NaN where a picture is smaller than the window, and MS-SSIM where a side is shorter than `SMALLEST`.
    """
    count, shortest = len(one_FHW), min(one_FHW.shape[1:])
    single, product = np.full(count, np.nan), np.full(count, np.nan)
    if shortest < WINDOW:
        return single, product
    one, other, away = one_FHW.astype(np.float32), other_FHW.astype(np.float32), away_FHW
    for number, weight in enumerate(SCALES):
        whole, structure = _maps(one, other)
        if number == 0:
            single, product = _means(whole, away), np.ones(count)
            if shortest < SMALLEST:
                return single, np.full(count, np.nan)
        last = number == len(SCALES) - 1
        product = product * np.maximum(_means(whole if last else structure, away), 0) ** weight
        if not last:
            one, other = _halved(one), _halved(other)
            away = None if away is None else _halved(away, np.max)
    return single, product


def _five(value: float) -> float | NotComputed:
    return NotComputed(f"a side of the picture is shorter than {SMALLEST} pixels") if np.isnan(value) else value


_ONE = "Wang et al. 2004: mean over frames{where} of the similarity of luminance, contrast and structure, on luma."
_MANY = "Wang et al. 2003: as SSIM, over five scales{where}; needs 161 pixels on the shorter side."
_AWAY = ", windows that touch the face left out"

METRICS = (
    Metric("ssim", "SSIM outside the face", "", Better.HIGHER, "a face mask, or mediapipe", _ONE.format(where=_AWAY),
           lambda s: outside(s, "ssim")),
    Metric("ms_ssim", "MS-SSIM outside the face", "", Better.HIGHER, "a face mask, or mediapipe",
           _MANY.format(where=_AWAY), lambda s: _five(outside(s, "ms_ssim"))),
    Metric("ssim_frame", "SSIM, whole frame", "", Better.HIGHER, "", _ONE.format(where=""),
           lambda s: compared(s)["ssim"]),
)  # fmt: skip
