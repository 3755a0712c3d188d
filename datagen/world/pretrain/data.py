"""Shards: world clips drawn once and kept as raw bytes, for training that would otherwise wait for the renderer.

A folder holds one raw array per field, `world.json` (what was asked for) and `done.json` (how many clips are
complete). A clip's bytes depend on the world's seed, the split and its number alone, so an interrupted `prepare` goes
on where it stopped and ends with the same bytes.

Legend: N clips, F frames, H = W = size, S samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datagen.world.clip import Take, World
from datagen.world.features import EYES_AT, feature_centre
from justdub.errors import BadInputError, UsageError

_TOGETHER = 16  # clips drawn between two updates of `done.json`
_EYE_REACH = (8.0, 7.0)  # units from an eye's centre to the sides of its box


@dataclass(frozen=True)
class ShardSpec:
    """Which clips: numbers `first` .. `first + clips - 1` of `split` in `World(seed, size, frames=frames)`.

    `sound` keeps the samples too (mono int16 at the world's rate).
    """

    clips: int = 3000
    split: str = "base"
    seed: int = 0
    size: int = 96
    frames: int = 49
    first: int = 0
    sound: bool = False


@dataclass(frozen=True)
class Shard:
    """Read-only arrays on disk.

    Attributes:
        frames: uint8 (N, F, H, W, 3). mouth, eyes: float32 (N, F, 4), boxes x0, y0, x1, y1 in pixels around the lips
        and around both eyes. lids: float32 (N, F), 1 open .. 0 shut. samples: int16 (N, S) or None.
    """

    spec: ShardSpec
    frames: np.ndarray
    mouth: np.ndarray
    eyes: np.ndarray
    lids: np.ndarray
    samples: np.ndarray | None

    def __len__(self) -> int:
        return len(self.frames)


def prepare(folder: Path, spec: ShardSpec, report: Callable[[int, int], None] | None = None) -> Shard:
    """Draw what is missing of a shard, then open it; `report(done, clips)` is called after each handful."""
    folder.mkdir(parents=True, exist_ok=True)
    described = folder / "world.json"
    if described.exists():
        found = json.loads(described.read_text())
        if found != asdict(spec):
            raise UsageError(
                f"{folder} holds other clips ({found})", expected=str(asdict(spec)), remedy="another folder"
            )
    else:
        _write_json(described, asdict(spec))
    done = _done(folder)
    world = World(seed=spec.seed, size=spec.size, frames=spec.frames)
    arrays = {name: _open(folder, name, *form, "r+") for name, form in _layout(spec, world.length).items()}
    while done < spec.clips:
        count = min(_TOGETHER, spec.clips - done)
        batch = world.batch(range(spec.first + done, spec.first + done + count), spec.split)
        part = slice(done, done + count)
        arrays["frames"][part] = batch.frames.numpy()
        arrays["mouth"][part] = batch.box_BF4
        arrays["eyes"][part] = np.stack([eye_box(take) for take in batch.takes]) * (spec.size / 96)
        arrays["lids"][part] = np.stack([take.drawing.track.lids_F for take in batch.takes])
        if spec.sound:
            arrays["samples"][part] = np.rint(batch.samples * 32767)
        for array in arrays.values():
            array.flush()
        done += count
        _write_json(folder / "done.json", {"clips": done})
        if report is not None:
            report(done, spec.clips)
    return open_shard(folder)


def open_shard(folder: Path) -> Shard:
    """A complete shard, read-only."""
    described = folder / "world.json"
    if not described.exists():
        raise BadInputError(f"no shard in {folder}", expected="world.json", remedy="prepare it first")
    spec = ShardSpec(**json.loads(described.read_text()))
    if _done(folder) < spec.clips:
        raise BadInputError(f"{folder} holds {_done(folder)} of {spec.clips} clips", remedy="prepare it again")
    length = World(seed=spec.seed, size=spec.size, frames=spec.frames).length
    arrays = {name: _open(folder, name, *form, "r") for name, form in _layout(spec, length).items()}
    return Shard(spec, samples=arrays.pop("samples", None), **arrays)


def open_or_draw(shards: Path, spec: ShardSpec, report: Callable[[dict], None] | None) -> Shard:
    """The shard of a specification, in a folder named after it."""
    sound = "-sound" if spec.sound else ""
    name = f"{spec.split}-{spec.size}px-{spec.frames}f-seed{spec.seed}-{spec.first}+{spec.clips}{sound}"

    def tell(done: int, of: int) -> None:
        if report is not None:
            report({"drawing": name, "clips": done, "of": of})

    return prepare(shards / name, spec, tell)


def eye_box(take: Take) -> np.ndarray:
    """(F, 4) box around both eyes with their lids, in units of 1/96 frame."""
    pose, gap = take.drawing.track.pose_F5, take.drawing.face.eye_gap
    centres = np.stack([feature_centre(pose, side * gap, EYES_AT) for side in (-1.0, 1.0)])
    reach = np.array(_EYE_REACH) * pose[:, 3:4]
    return np.concatenate((centres.min(0) - reach, centres.max(0) + reach), 1)


def _layout(spec: ShardSpec, length: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Element type and shape of every array."""
    clip = (spec.clips, spec.frames)
    layout = {
        "frames": ("uint8", (*clip, spec.size, spec.size, 3)),
        "mouth": ("float32", (*clip, 4)),
        "eyes": ("float32", (*clip, 4)),
        "lids": ("float32", clip),
    }
    return layout | ({"samples": ("int16", (spec.clips, length))} if spec.sound else {})


def _open(folder: Path, name: str, kind: str, shape: tuple[int, ...], mode: str) -> np.memmap:
    path = folder / f"{name}.{kind}"
    if mode == "r+" and not path.exists():
        mode = "w+"
    return np.memmap(path, dtype=kind, mode=mode, shape=shape)


def _done(folder: Path) -> int:
    path = folder / "done.json"
    return int(json.loads(path.read_text())["clips"]) if path.exists() else 0


def _write_json(path: Path, content: dict) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(path)
