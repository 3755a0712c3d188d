"""A clip at a glance: a row of frames over its spectrogram, as one picture that needs no player.

Letters: F frames, H/W height/width, 3 RGB, C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from justdub.media.audio import read_audio
from justdub.media.probe import ClipInfo
from justdub.media.read import read_frames

_RATE = 16000  # Hz: speech lies below the half of it
_WINDOW, _BANDS = 512, 64
_RANGE = 60.0  # dB below the loudest that are drawn
_GAP = 4
# From silent to loud: a few stops of a map that also reads in grey.
_STOPS = np.array([(8, 8, 24), (60, 20, 100), (160, 40, 110), (240, 110, 60), (252, 235, 150)], np.float64)


@dataclass(frozen=True)
class Glance:
    """What is drawn of one clip: frames (columns, H, W, 3) uint8 evenly spread, sound (S,) float32 at 16 kHz."""

    frames: np.ndarray
    sound: np.ndarray


def glance(info: ClipInfo, columns: int = 8, height: int = 96) -> Glance:
    """Read `columns` frames at `height` pixels, and the sound."""
    size = (max(2, 2 * round(height * float(info.display_aspect) / 2)), height)
    chosen = np.linspace(0, info.video.frames - 1, columns + 2).round().astype(int)[1:-1]
    frames, seen = [], 0
    for chunk in read_frames(info, size=size):
        frames += [chunk[index - seen] for index in chosen if seen <= index < seen + len(chunk)]
        seen += len(chunk)
    sound = read_audio(info, rate=_RATE, channels=1)[0] if info.audio else np.zeros(_RATE, np.float32)
    return Glance(np.stack(frames), sound)


def draw(clips: Sequence[Glance]) -> np.ndarray:
    """The clips one under the other, (H', W', 3) uint8; the narrower ones are filled up with black."""
    parts = []
    for clip in clips:
        strip = np.concatenate(list(clip.frames), axis=1)
        parts += [strip, spectrogram(clip.sound, strip.shape[1])]
    width = max(part.shape[1] for part in parts)
    rows = []
    for number, part in enumerate(parts):
        gap = 0 if number == len(parts) - 1 else _GAP * (3 if number % 2 else 1)
        rows.append(np.pad(part, ((0, gap), (0, width - part.shape[1]), (0, 0))))
    return np.concatenate(rows)


def spectrogram(sound: np.ndarray, width: int) -> np.ndarray:
    """(64, width, 3) uint8: bands on the mel scale (low at the bottom), over the whole of `sound`."""
    padded = np.pad(sound.astype(np.float64), _WINDOW // 2)
    starts = np.linspace(0, max(0, len(padded) - _WINDOW), width).astype(int)
    pieces = np.stack([np.pad(p := padded[s : s + _WINDOW], (0, _WINDOW - len(p))) for s in starts])
    power = np.abs(np.fft.rfft(pieces * np.hanning(_WINDOW))) ** 2
    top = 2595 * np.log10(1 + _RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1) / (_RATE / _WINDOW)
    bins = np.arange(power.shape[1])
    rise = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    loud = 10 * np.log10(power @ np.clip(np.minimum(rise, fall), 0, None).T + 1e-12)
    level = np.clip((loud - loud.max()) / _RANGE + 1, 0, 1).T[::-1] * (len(_STOPS) - 1)
    below = np.minimum(level.astype(int), len(_STOPS) - 2)
    share = (level - below)[..., None]
    return np.rint(_STOPS[below] * (1 - share) + _STOPS[below + 1] * share).astype(np.uint8)
