"""Clips heard but not drawn, kept for training judges: spectrogram, mouth and time of speech, a few ms a clip.

A folder holds one raw array per field and `done.json`; an interrupted `hear` goes on where it stopped.

Legend: N clips, T mel frames, M mel bins, F frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datagen.world.clip import Take, World
from justdub.evaluation.world.sound import log_mel

_TOGETHER = 250
_FIELDS = {"mel": "float16", "mouth": "float32", "speech": "float32"}


@dataclass(frozen=True)
class HeardSpec:
    """Clips `first` .. `first + clips - 1` of a split of `World(seed)`."""

    clips: int
    split: str = "base"
    seed: int = 0
    first: int = 0


@dataclass(frozen=True)
class Heard:
    """mel: float16 (N, T, M), nat. mouth: float32 (N, F, 2), opening and width of the lips in pixels of a 96-pixel
    frame. speech: float32 (N, 2), seconds from the first phoneme's start to the last one's end, laughter included."""

    spec: HeardSpec
    mel: np.ndarray
    mouth: np.ndarray
    speech: np.ndarray

    def __len__(self) -> int:
        return len(self.mel)


def hear(shards: Path, spec: HeardSpec, report: Callable[[dict], None] | None = None) -> Heard:
    """Perform what is missing, then open the arrays."""
    name = f"{spec.split}-heard-seed{spec.seed}-{spec.first}+{spec.clips}"
    folder, world = shards / name, World(seed=spec.seed)
    folder.mkdir(parents=True, exist_ok=True)
    progress = folder / "done.json"
    done = json.loads(progress.read_text())["clips"] if progress.exists() else 0
    shapes = {"mel": (1 + world.length // 160, 64), "mouth": (world.frames, 2), "speech": (2,)}
    arrays = {
        field: np.memmap(
            folder / f"{field}.{kind}",
            kind,
            "r+" if (folder / f"{field}.{kind}").exists() else "w+",
            shape=(spec.clips, *shapes[field]),
        )
        for field, kind in _FIELDS.items()
    }
    while done < spec.clips:
        plans = [world.plan(spec.first + i, spec.split) for i in range(done, min(spec.clips, done + _TOGETHER))]
        for place in sorted(range(len(plans)), key=lambda i: plans[i].language):  # a change loads a dictionary
            take = world.perform(plans[place])
            arrays["mel"][done + place] = log_mel(take.samples)
            arrays["mouth"][done + place] = np.stack((take.mouth.opening_F, take.mouth.width_F), 1)
            arrays["speech"][done + place] = spoken(take)
        for array in arrays.values():
            array.flush()
        done += len(plans)
        progress.write_text(json.dumps({"clips": done}) + "\n")
        if report is not None:
            report({"drawing": name, "clips": done, "of": spec.clips})
    return Heard(spec, **arrays)


def spoken(take: Take) -> tuple[float, float]:
    """Seconds from the first phoneme's start to the last one's end."""
    sounds = (*take.phonemes, *take.laughter)
    return (sounds[0].start, sounds[-1].end) if sounds else (0.0, 0.0)
