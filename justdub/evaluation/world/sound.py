"""What every judge of sound hears: the program's own log-mel spectrogram at 16 kHz, 100 frames/s, 64 bins.

Legend: S samples, T mel frames, M mel bins, F video frames.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from justdub.backbone.codecs import AudioCodec

SAMPLE_RATE, MEL_RATE, FRAME_RATE, BINS = 16000, 100, 25, 64
MEL_PER_FRAME = MEL_RATE // FRAME_RATE
_SETTINGS = SimpleNamespace(
    config=SimpleNamespace(sample_rate=SAMPLE_RATE, mel_hop_length=SAMPLE_RATE // MEL_RATE, mel_bins=BINS)
)
_MIDDLE, _SPREAD = -6.0, 2.5  # nat: about the mean and the deviation of the world's spectrograms


def log_mel(samples_S: np.ndarray) -> np.ndarray:
    """float32 samples at 16 kHz, full scale 1 -> (1 + S // 160, 64) float32, nat. Frame t is centred on t / 100 s."""
    samples = torch.from_numpy(np.ascontiguousarray(samples_S, np.float32))[None]
    return AudioCodec(_SETTINGS, None).log_mel(samples)[0, 0].numpy()


def scaled(mel_BTM: torch.Tensor) -> torch.Tensor:
    """A spectrogram in nat as the nets want it: about zero mean and unit deviation."""
    return (mel_BTM - _MIDDLE) / _SPREAD


def envelope(samples_S: np.ndarray, frames: int) -> np.ndarray:
    """(F,) root mean square of the sound around each frame's instant, over two frame lengths with a Hann weight."""
    step = SAMPLE_RATE // FRAME_RATE
    weight = np.hanning(2 * step + 1)[:-1]
    padded = np.pad(np.asarray(samples_S, np.float64) ** 2, (step, step + frames * step))
    power_F = np.array([weight @ padded[k * step : (k + 2) * step] for k in range(frames)])
    return np.sqrt(power_F / weight.sum())
