"""How a head moves: sway, nods, blinks and gaze as smooth functions of time, sampled at any frame rate.

F instants; positions in units of 1/96 frame, angles in radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Motion:
    """One clip's movement plan (not yet sampled), the same for both halves of a pair.

    Attributes:
        centre: mean place of the face's centre; scale: mean size (1 = as in `faces`); tilt: mean roll.
        yaw: how far the head is turned, -1..1 (features shift sideways by up to 5 units).
        sway: (5, 3, 3) = channel (x, y, roll, scale, yaw) x wave x (amplitude, Hz, phase).
        blinks: times of closed lids, s; gaze: (K, 3) = from this time on look at (x, y), -1..1.
    """

    centre: tuple[float, float]
    scale: float
    tilt: float
    yaw: float
    sway: np.ndarray
    blinks: tuple[float, ...]
    gaze: np.ndarray


@dataclass(frozen=True)
class Track:
    """A motion sampled at F instants: `pose_F5` = x, y, roll, scale, yaw; `lids_F` = 1 open .. 0 shut; `gaze_F2`."""

    pose_F5: np.ndarray
    lids_F: np.ndarray
    gaze_F2: np.ndarray


_AMPLITUDES = np.array((1.6, 1.1, 0.035, 0.012, 0.14))


def draw(rng: np.random.Generator, duration: float) -> Motion:
    """A plan for `duration` seconds."""
    waves = np.empty((5, 3, 3))
    waves[..., 0] = _AMPLITUDES[:, None] * rng.uniform(0.2, 1.0, (5, 3)) * (1.0, 0.6, 0.3)
    waves[..., 1] = rng.uniform((0.15, 0.45, 0.9), (0.45, 0.9, 1.8), (5, 3))
    waves[..., 2] = rng.uniform(0, 2 * np.pi, (5, 3))
    blinks, at = [], rng.uniform(0.0, 2.2)
    while at < duration:
        blinks.append(float(at))
        at += rng.uniform(0.9, 3.2)
    count = 1 + int(rng.integers(0, 3))
    gaze = np.column_stack(
        (np.sort(np.r_[-1.0, rng.uniform(0.1 * duration, duration, count - 1)]), rng.uniform(-1, 1, (count, 2)))
    )
    turned = rng.uniform() < 0.3
    return Motion(
        centre=(48 + rng.uniform(-4, 4), 50 + rng.uniform(-2.5, 2.5)),
        scale=rng.uniform(0.9, 1.0),
        tilt=rng.uniform(-0.12, 0.12),
        yaw=(rng.uniform(0.5, 0.9) if turned else rng.uniform(0, 0.35)) * rng.choice((-1, 1)),
        sway=waves,
        blinks=tuple(blinks),
        gaze=gaze,
    )


def sample(motion: Motion, times_F: np.ndarray, *, bob: float = 1.0) -> Track:
    """The plan at `times_F` (s); `bob` scales all head movement (a style's liveliness)."""
    amplitude, rate, phase = np.moveaxis(motion.sway, -1, 0)
    waves = amplitude[..., None] * np.sin(2 * np.pi * rate[..., None] * times_F + phase[..., None])
    pose = bob * waves.sum(1).T
    pose += np.array((*motion.centre, motion.tilt, motion.scale, motion.yaw))
    pose[:, 4] = np.clip(pose[:, 4], -1, 1)
    lids = np.ones(len(times_F))
    for at in motion.blinks:  # shut for about 60 ms, half open 50 ms to either side
        lids = np.minimum(lids, np.clip((np.abs(times_F - at) - 0.035) / 0.07, 0, 1))
    index = np.searchsorted(motion.gaze[:, 0], times_F, side="right") - 1
    return Track(pose, lids, motion.gaze[index, 1:])
