"""Structural similarity, at one scale and at five.

Wang, Bovik, Sheikh, Simoncelli 2004 (SSIM: Gaussian window of 11 pixels, sigma 1.5, K 0.01 and 0.03, on luma); Wang,
Simoncelli, Bovik 2003 (MS-SSIM: weights of the scales). Windows that touch the face are left out where a mask is given.

Legend: F frames, H/W height/width, h/w of the map of whole windows.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def _whole(map_HW: np.ndarray) -> np.ndarray:
    return map_HW[_EDGE:-_EDGE, _EDGE:-_EDGE]


def _blur(image_HW: np.ndarray) -> np.ndarray:
    """hw: weighted means over every window that lies within the picture."""
    return _whole(correlate1d(correlate1d(image_HW, _WEIGHTS, axis=0), _WEIGHTS, axis=1))


def _maps(one_HW: np.ndarray, other_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and its contrast-structure factor, hw."""
    mean, mean2 = _blur(one_HW), _blur(other_HW)
    variance = _blur(one_HW**2) - mean**2
    variance2 = _blur(other_HW**2) - mean2**2
    covariance = _blur(one_HW * other_HW) - mean * mean2
    structure = (2 * covariance + C2) / (variance + variance2 + C2)
    return structure * (2 * mean * mean2 + C1) / (mean**2 + mean2**2 + C1), structure


def _kept(away_HW: np.ndarray | None) -> np.ndarray | None:
    """bool hw: the windows that do not touch `away`; None for all."""
    if away_HW is None:
        return None
    touched = maximum_filter1d(maximum_filter1d(away_HW.astype(np.uint8), WINDOW, axis=0), WINDOW, axis=1)
    return _whole(touched) == 0


def _mean(map_hw: np.ndarray, kept_hw: np.ndarray | None) -> float:
    """NaN where nothing is kept."""
    if kept_hw is None:
        return float(map_hw.mean(dtype=np.float64))
    count = np.count_nonzero(kept_hw)
    return float((map_hw * kept_hw).sum(dtype=np.float64) / count) if count else np.nan


def _halved(image_HW: np.ndarray, reduce=np.mean) -> np.ndarray:
    height, width = (side // 2 * 2 for side in image_HW.shape)
    return reduce(image_HW[:height, :width].reshape(height // 2, 2, width // 2, 2), axis=(1, 3))


def _of_frame(one_HW: np.ndarray, other_HW: np.ndarray, aways: Sequence[np.ndarray | None], scales: int) -> np.ndarray:
    """(len(aways), 2): SSIM and MS-SSIM of one frame; the maps, which cost most, are the same for every `away`."""
    found = np.array([(np.nan, 1.0)] * len(aways))
    scales = scales if min(one_HW.shape) >= SMALLEST else 1
    for number in range(scales):
        whole, structure = _maps(one_HW, other_HW)
        last = number == len(SCALES) - 1
        for row, away in zip(found, aways, strict=True):
            kept = _kept(away)
            if number == 0:
                row[0] = _mean(whole, kept)
            if scales > 1:
                row[1] *= np.maximum(_mean(whole if last else structure, kept), 0) ** SCALES[number]
        if number < scales - 1:
            one_HW, other_HW = _halved(one_HW), _halved(other_HW)
            aways = [None if away is None else _halved(away, np.max) for away in aways]
    if scales < len(SCALES):
        found[:, 1] = np.nan
    return found


def several(
    one_FHW: np.ndarray, other_FHW: np.ndarray, aways: Sequence[np.ndarray | None], *, scales: int = len(SCALES)
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`similarities` with each of `aways`. scales=1 leaves MS-SSIM out (NaN)."""
    found = np.full((len(aways), 2, len(one_FHW)), np.nan)
    if min(one_FHW.shape[1:]) >= WINDOW:
        for place, (one, other) in enumerate(zip(one_FHW, other_FHW, strict=True)):  # a frame at once stays in cache
            masks = [None if away is None else away[place] for away in aways]
            found[..., place] = _of_frame(one.astype(np.float32), other.astype(np.float32), masks, scales)
    return [(single, product) for single, product in found]


def similarities(
    one_FHW: np.ndarray, other_FHW: np.ndarray, away_FHW: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(F,) SSIM and (F,) MS-SSIM of grey pictures 0..255.

    NaN where a picture is smaller than the window, and MS-SSIM where a side is shorter than `SMALLEST`.
    """
    return several(one_FHW, other_FHW, (away_FHW,))[0]


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
