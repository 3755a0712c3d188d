"""What training does to clips so that judges also hear and see what has been through a lossy codec.

Legend: B clips, T mel frames, M mel bins, H = W = side of frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_QUIETEST = -11.5  # nat, about the floor of a spectrogram


def smear_mel(
    mel_BTM: Tensor, rng: np.random.Generator, shift: int = 8, colour: bool = True
) -> tuple[Tensor, np.ndarray]:
    """Gain, band gain, blur in time and frequency, noise floor, jitter and a shift in time of each clip.

    Args:
        mel_BTM: float32, nat. shift: at most, in mel frames; edges are repeated.
        colour: change bands against each other.

    Returns:
        The spectrograms and the shifts (B,), positive for later.
    """
    batch, length, bins = mel_BTM.shape
    shifts_B = rng.integers(-shift, shift + 1, batch)
    place_BT = np.clip(np.arange(length)[None] - shifts_B[:, None], 0, length - 1)
    mel = mel_BTM.gather(1, torch.from_numpy(place_BT)[..., None].expand(-1, -1, bins))
    blurred_B = rng.uniform(size=batch) < 0.6
    for axis, most in ((1, 1.3), (2, 1.0)):
        width_B = torch.from_numpy(rng.uniform(0.15, most, batch) * blurred_B + 0.1)
        taps_B7 = torch.exp(-0.5 * (torch.arange(-3, 4)[None] / width_B[:, None]) ** 2)
        taps_B7 = (taps_B7 / taps_B7.sum(1, keepdim=True)).float()
        side = (3, 3, 0, 0) if axis == 2 else (0, 0, 3, 3)
        padded = functional.pad(mel[:, None], side, mode="replicate")[:, 0]
        mel = sum(taps_B7[:, k, None, None] * padded.narrow(axis, k, mel.shape[axis]) for k in range(7))
    points_B5 = torch.from_numpy(rng.normal(0, 0.4, (batch, 1, 5)) * (rng.uniform(size=(batch, 1, 1)) < 0.5)).float()
    band_B1M = functional.interpolate(points_B5, bins, mode="linear", align_corners=True)
    gain_B11 = torch.from_numpy(rng.uniform(-1.0, 0.7, (batch, 1, 1))).float()
    mel = mel + (band_B1M if colour else 0) + gain_B11
    floor_B11 = torch.from_numpy(_QUIETEST + 5.0 * rng.uniform(size=(batch, 1, 1)) ** 2).float()
    jitter_B11 = torch.from_numpy(rng.uniform(0, 0.45, (batch, 1, 1)) * (rng.uniform(size=(batch, 1, 1)) < 0.6)).float()
    noise = torch.randn(mel.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
    return torch.logaddexp(mel, floor_B11 + 0.3 * noise) + jitter_B11 * noise, shifts_B


def smear_frames(frames_NHW3: np.ndarray, rng: np.random.Generator, turn: bool = True) -> Tensor:
    """uint8 frames -> (N, 3, H, W) float32, -1..1: blurred by down- and upscaling, colours and light changed, noise.

    Args:
        turn: mirror half of them.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(frames_NHW3)).permute(0, 3, 1, 2).float() / 127.5 - 1
    count, side = len(pixels), pixels.shape[-1]
    order = rng.permutation(count)
    for part, scale in zip(
        np.array_split(order, 4), (1.0, rng.uniform(0.7, 1), rng.uniform(0.45, 0.8), 0.5), strict=True
    ):
        if scale < 1 and len(part):
            small = functional.interpolate(pixels[part], size=round(side * scale), mode="area")
            pixels[part] = functional.interpolate(small, size=side, mode="bilinear", align_corners=False)
    light = torch.from_numpy(
        rng.uniform(0.85, 1.15, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 3, 1, 1))
    ).float()
    tint = torch.from_numpy(rng.uniform(-0.08, 0.08, (count, 3, 1, 1))).float()
    amount = torch.from_numpy(rng.uniform(0, 0.06, (count, 1, 1, 1))).float()
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**31))))
    pixels = (pixels * light + tint + amount * noise).clamp(-1, 1)
    if turn:
        mirrored = torch.from_numpy(rng.uniform(size=count) < 0.5)
        pixels[mirrored] = pixels[mirrored].flip(-1)
    return pixels
