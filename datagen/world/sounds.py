"""What happens to a voice after espeak-ng, and the sounds around it. All arrays float32 (S,) at 16 kHz, full scale
1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.signal import lfilter

from datagen.world.speech import SAMPLE_RATE
from datagen.world.styles import Style

AMBIENCES = {
    "rain": "Rain is falling.",
    "wind": "Wind is blowing.",
    "hum": "A machine hums.",
    "birds": "Birds are chirping.",
    "crowd": "A crowd murmurs.",
}
LEVEL = -23.0  # dBFS, root mean square of a neutral voice over its active part
FLOOR = -66.0  # dBFS, noise of the microphone, everywhere


def decibel(value: float) -> float:
    """dB -> amplitude factor."""
    return 10 ** (value / 20)


def deliver(samples: np.ndarray, style: Style, intensity: float, tremor: float, phase: float) -> np.ndarray:
    """A style's colour and level on a voice: tilt, soft clipping, tremor, then the style's gain about `LEVEL`.

    Args:
        tremor: an old voice's own unsteadiness, 0..1; phase: of the tremor, radians.
    """
    tilt, drive = style.at("tilt", intensity), style.at("drive", intensity)
    if tilt:  # a one-pole split at about 1.5 kHz; the upper part is raised or lowered
        pole = np.exp(-2 * np.pi * 1500 / SAMPLE_RATE)
        low = lfilter([1 - pole], [1, -pole], samples).astype(np.float32)
        samples = low + (samples - low) * np.float32(decibel(tilt))
    active = samples[np.abs(samples) > 0.01 * np.abs(samples).max(initial=1e-6)]
    level = float(np.sqrt(np.mean(active * active))) if len(active) else 1.0
    samples = samples * np.float32(decibel(LEVEL) / max(level, 1e-6))
    if drive:
        push = np.float32(1 + 5 * drive)
        samples = np.tanh(samples * push * 2) / (push * np.float32(1.4))
    depth = max(0.45 * style.at("tremor", intensity), 0.25 * tremor)
    if depth:
        time = np.arange(len(samples), dtype=np.float32) / SAMPLE_RATE
        samples = samples * (1 - np.float32(depth) * (0.5 + 0.5 * np.sin(2 * np.pi * 6.5 * time + phase))).astype(
            np.float32
        )
    return (samples * np.float32(decibel(style.at("gain", intensity)))).astype(np.float32)


def inner_voice(samples: np.ndarray) -> np.ndarray:
    """A monologue in the head: highs gone (one pole at 1.4 kHz, twice) and a small room around it."""
    pole = np.exp(-2 * np.pi * 1400 / SAMPLE_RATE)
    dull = lfilter([(1 - pole) ** 2], [1, -2 * pole, pole * pole], samples)
    wet = dull.copy()
    for delay, gain in ((0.031, 0.45), (0.053, 0.36), (0.079, 0.28), (0.113, 0.2)):
        shift = int(delay * SAMPLE_RATE)
        wet[shift:] += gain * dull[:-shift]
    return (1.3 * wet).astype(np.float32)


@lru_cache(maxsize=8)
def _poles(kind: str) -> tuple[float, float]:
    """Lower and upper edge of the noise of an ambience, Hz."""
    return {"rain": (900.0, 7000.0), "wind": (20.0, 350.0), "crowd": (180.0, 1200.0)}[kind]


def ambience(kind: str, length: int, rng: np.random.Generator) -> np.ndarray:
    """A background sound at about -20 dBFS; the caller sets its level."""
    time = np.arange(length) / SAMPLE_RATE
    if kind == "hum":
        base = rng.uniform(50, 120)
        sound = sum(np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6.28)) / k for k in (1, 2, 3, 5))
    elif kind == "birds":
        sound = np.zeros(length)
        for _ in range(int(rng.integers(2, 6))):
            start, count = int(rng.uniform(0, length * 0.9)), int(SAMPLE_RATE * rng.uniform(0.06, 0.16))
            piece = np.arange(min(count, length - start)) / SAMPLE_RATE
            sweep = rng.uniform(2500, 5000) + rng.uniform(-9000, 9000) * piece
            sound[start : start + len(piece)] += np.hanning(len(piece)) * np.sin(
                2 * np.pi * np.cumsum(sweep) / SAMPLE_RATE
            )
    else:
        low, high = _poles(kind)
        sound = rng.standard_normal(length)
        a, b = (np.exp(-2 * np.pi * f / SAMPLE_RATE) for f in (high, low))
        sound = lfilter([1 - a], [1, -a], sound)
        sound = sound - lfilter([1 - b], [1, -b], sound)
        if kind != "rain":
            rate = 0.7 if kind == "wind" else 4.0
            sound = sound * (1 + 0.6 * np.sin(2 * np.pi * rate * time + rng.uniform(0, 6.28)))
    return (sound * (0.1 / max(float(np.sqrt(np.mean(sound * sound))), 1e-6))).astype(np.float32)
