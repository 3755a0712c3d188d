"""Clips that switch language as a training set for generating adapters: `python -m datagen.world switching --out DIR`.

    DIR/clips/000017.mp4    a clip of two lines (`switching`, `film`)
    DIR/clips/000017.json   what is true of it; written last: a clip without it is not there
    DIR/masks/000017.mp4    lips, chin and what lies between, white
    DIR/dataset.json        caption and then (a prompt for each line), media_path, mask_path
    DIR/README.md           the card

Legend: F frames, H = W = size, 2 = x, y in pixels, 4 = x0, y0, x1, y1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datagen import film
from datagen.world import splits, switching
from datagen.world.clip import Take, World
from datagen.world.folder import ClipFolder
from datagen.world.pairs import inside, to_chin
from datagen.world.render import render
from datagen.world.workers import spread
from justdub.errors import UsageError

TOGETHER = 8  # clips drawn in one go
_FORMAT = 2
_MARGIN = 4  # pixels of a 96-pixel frame around lips and chin


@dataclass(frozen=True)
class Request:
    """Which clips: `count` of a split of the world, from number `first` on, of so many frames.

    Raises:
        UsageError: a count below 1, a first below 0, an unknown split, too few frames for two lines.
    """

    count: int
    split: str = "base"
    first: int = 0
    frames: int = 97
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"{self.count} clips", expected="1 or more")
        if self.first < 0 or self.seed < 0:
            raise UsageError(f"first {self.first}, seed {self.seed}", expected="0 or more")
        if self.split not in splits.SPLITS:
            raise UsageError(f"split {self.split!r}", expected="one of " + ", ".join(splits.SPLITS))
        if self.frames < 49:
            raise UsageError(f"{self.frames} frames", expected="49 or more: two lines")

    def world(self) -> World:
        return World(seed=self.seed, frames=self.frames)


def write(
    root: Path,
    request: Request,
    *,
    workers: int = 1,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Draw what is missing, then write the list; returns the number of clips.

    Args:
        root: the folder. workers: processes, each on one core. command: for the card.
        progress: called as progress(clips drawn, clips to draw).

    Raises:
        BadInputError: nothing can be written there, or it holds clips of another request.
    """
    folder = open_folder(root, request)
    numbers = range(request.first, request.first + request.count)
    missing = [number for number in numbers if folder.find(number) is None]
    parts = [missing[at : at + TOGETHER] for at in range(0, len(missing), TOGETHER)]
    done = 0
    for count in spread(partial(_add, root, request), parts, workers):
        done += count
        if progress is not None:
            progress(done, len(missing))
    facts = [folder.find(number) for number in numbers]
    entries = [
        {
            "caption": found["prompts"][0],
            "then": [[round(len_half(request), 4), found["prompts"][1]]],
            "media_path": folder.clips(number)[0],
            "mask_path": folder.mask(number),
        }
        for number, found in zip(numbers, facts, strict=True)
    ]
    folder.put_json("dataset.json", entries)
    film.put(root / "README.md", _card(request, facts, command).encode())
    return len(entries)


def len_half(request: Request) -> float:
    """Seconds at which the second line's half begins."""
    return (request.frames + 1) // 2 / float(request.world().frame_rate)


def mouth_mask(take: Take, size: int) -> np.ndarray:
    """(F, H, W) bool: a box from the upper lip to the chin, frame by frame, and a margin."""
    box_F4 = take.mouth.box_F4 * size + _MARGIN * size / 96 * np.array([-1, -1, 1, 1])
    return inside(to_chin(box_F4, take, size), size)


def open_folder(root: Path, request: Request) -> ClipFolder:
    """A folder of clips of two lines; BadInputError where nothing can be written."""
    origin = {"format": _FORMAT, "seed": request.seed, "split": request.split, "frames": request.frames}
    return ClipFolder(root, origin)


def _add(root: Path, request: Request, numbers: Sequence[int]) -> int:
    """Draw some clips and write them."""
    world = request.world()
    said = [switching.choose(world, number, request.split) for number in numbers]
    takes = [switching.perform(world, one.person, one.lines, over=one.over) for one in said]
    drawn = render([take.drawing for take in takes], size=world.size).frames
    rates = {"frame_rate": world.frame_rate, "sample_rate": world.sample_rate}
    folder = open_folder(root, request)
    with folder.writing():
        for number, one, take, frames in zip(numbers, said, takes, drawn, strict=True):
            encoded = [film.encode(frames.numpy(), take.samples, **rates)]
            folder.add(number, encoded, mouth_mask(take, world.size), said_in(one), **rates)
    return len(numbers)


def said_in(one: switching.Dialogue) -> dict[str, Any]:
    """For JSON."""
    return {"prompts": list(one.prompts), "languages": [line.language for line in one.lines]}


def _card(request: Request, facts: Sequence[dict[str, Any]], command: str) -> str:
    """README.md of a folder."""
    counts = Counter(tuple(found["languages"]) for found in facts)
    listed = ", ".join(f"{one} to {other} {count}" for (one, other), count in sorted(counts.items()))
    return f"""# {len(facts)} clips of the drawn world in which the speaker changes the language

Made by

    {command}

Split `{request.split}`, seed {request.seed}, numbers from {request.first}, {request.frames} frames. One person says two
lines, a line in each half, in most clips in two languages: {listed}. Nobody in them exists.

`dataset.json` has no references: it is for adapters that generate (`dropout` of all references, `inpaint`). Clips:
lossless H.264 in RGB and 16-bit FLAC at 16 kHz in MP4. Masks: lips to chin, white.
"""
