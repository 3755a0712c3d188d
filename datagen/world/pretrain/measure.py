"""How good a video codec is: sharpness, and whether the mouth moves and the eyes blink (which sharpness hides).

All figures compare uint8 clips with their reconstructions. Legend: N clips, F frames, H, W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.world.pretrain.data import Shard
from datagen.world.sheet import write_png
from justdub.backbone.codecs import VideoCodec

_OPEN, _SHUT = 0.9, 0.15  # lids of an open and of a shut eye
_AROUND = 6  # frames within which a blink has an open eye to compare with


@dataclass(frozen=True)
class VideoFigures:
    """Means over clips unless said otherwise.

    Attributes:
        psnr, mouth_psnr: dB, peak 255, of whole frames and of the lips' box; psnr_worst: of the worst clip.
        motion_correlation: Pearson correlation of original and reconstructed frame differences in the lips' box, all
            pixels of all clips together; motion_correlation_clips: the same per clip, then averaged.
        motion_energy: energy of the reconstructed over that of the original differences (all clips together).
        blink_depth: share of a blink's change of the eyes that is reconstructed (regression slope; 1 = all of it),
            mean over blinks; blinks_kept: share of blinks of which more than half is left; blinks: their number.
    """

    psnr: float
    psnr_worst: float
    mouth_psnr: float
    motion_correlation: float
    motion_correlation_clips: float
    motion_energy: float
    blink_depth: float
    blinks_kept: float
    blinks: int

    def plain(self) -> dict[str, float]:
        return asdict(self)


def reconstruct(vae: Any, frames_NFHW3: np.ndarray) -> np.ndarray:
    """Clips through the codec and back, one by one, the way the program does it: uint8 of the same shape."""
    codec = VideoCodec(vae)
    return np.stack([codec.decode(codec.encode(clip.copy())).numpy() for clip in frames_NFHW3])


def measure_video(shard: Shard, copies_NFHW3: np.ndarray, clips: int | None = None) -> VideoFigures:
    """Figures of reconstructions `copies_NFHW3` of the first clips of a shard."""
    whole, mouths, products, correlations, blinks = [], [], [], [], []
    for number in range(len(copies_NFHW3) if clips is None else clips):
        original, copy = (np.asarray(part[number], np.float32) for part in (shard.frames, copies_NFHW3))
        squares = (original - copy) ** 2
        whole.append(_decibel(squares.mean()))
        boxes = [_window(box, squares.shape[1]) for box in shard.mouth[number]]
        mouths.append(_decibel(np.concatenate([s[box].ravel() for s, box in zip(squares, boxes, strict=True)]).mean()))
        products.append(_motion(original, copy, shard.mouth[number]))
        correlations.append(_correlation(products[-1]))
        blinks += _blinks(original, copy, shard.eyes[number], shard.lids[number])
    total = np.sum(products, 0)
    return VideoFigures(
        psnr=float(np.mean(whole)),
        psnr_worst=float(np.min(whole)),
        mouth_psnr=float(np.mean(mouths)),
        motion_correlation=_correlation(total),
        motion_correlation_clips=float(np.mean(correlations)),
        motion_energy=float(total[4] / total[3]) if total[3] > 0 else 0.0,
        blink_depth=float(np.mean(blinks)) if blinks else 0.0,
        blinks_kept=float(np.mean(np.array(blinks) > 0.5)) if blinks else 0.0,
        blinks=len(blinks),
    )


def measure_codec(vae: Any, shard: Shard, clips: int) -> VideoFigures:
    """Figures of a codec on the first `clips` clips of a shard."""
    with torch.inference_mode():
        return measure_video(shard, reconstruct(vae, shard.frames[:clips]))


def write_sheet(path: Path, originals: np.ndarray, copies: np.ndarray, columns: int = 8) -> None:
    """PNG with rows of originals over their reconstructions: `columns` frames spread over each clip (N, F, H, W, 3)."""
    chosen = np.linspace(0, originals.shape[1] - 1, columns + 2).round().astype(int)[1:-1]
    rows = [np.concatenate(list(clip[chosen]), 1) for pair in zip(originals, copies, strict=True) for clip in pair]
    write_png(path, np.concatenate(rows, 0))


def _decibel(mean_square: float) -> float:
    return float(10 * np.log10(255.0**2 / max(float(mean_square), 255.0**2 * 1e-10)))


def _window(box_4: np.ndarray, size: int) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box touches, at least one of each."""
    low = np.clip(np.floor(box_4[:2]), 0, size - 1).astype(int)
    high = np.clip(np.ceil(box_4[2:]), low + 1, size).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _motion(original: np.ndarray, copy: np.ndarray, boxes_F4: np.ndarray) -> np.ndarray:
    """Sums over frame pairs of (1, x, y, x x, y y, x y), x and y the differences within both frames' boxes."""
    sums = np.zeros(6)
    for k in range(len(original) - 1):
        pair = boxes_F4[k : k + 2]
        window = _window(np.concatenate((pair[:, :2].min(0), pair[:, 2:].max(0))), original.shape[1])
        x, y = ((part[k + 1][window] - part[k][window]).astype(np.float64).ravel() for part in (original, copy))
        sums += (len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y)
    return sums


def _correlation(sums: np.ndarray) -> float:
    """Pearson's, from the sums of `_motion`; 0 where one side does not move."""
    count, x, y, xx, yy, xy = sums
    variance = (xx - x * x / count) * (yy - y * y / count)
    return float((xy - x * y / count) / np.sqrt(variance)) if variance > 1e-9 else 0.0


def _blinks(original: np.ndarray, copy: np.ndarray, eyes_F4: np.ndarray, lids_F: np.ndarray) -> list[float]:
    """For each blink, the slope of the copy's change between shut and the nearest open frame over the original's."""
    slopes = []
    shut = lids_F < _SHUT
    for k in np.flatnonzero(shut & ~np.r_[False, shut[:-1]]):
        around = [j for j in range(max(0, k - _AROUND), min(len(lids_F), k + _AROUND + 1)) if lids_F[j] > _OPEN]
        if not around:
            continue
        other = min(around, key=lambda j: abs(j - k))
        window = _window(eyes_F4[k], original.shape[1])
        x, y = ((part[k][window] - part[other][window]).ravel() for part in (original, copy))
        if x @ x > 0:
            slopes.append(float(x @ y / (x @ x)))
    return slopes
