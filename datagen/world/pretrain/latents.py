"""Latents of world clips with their captions, encoded once: what the transformer is trained on.

A set lives in one folder: `latents.json` (what it holds), `captions.json`, `audio.safetensors`, of sets with pictures
`video.safetensors`, and `phonemes.safetensors`, which is made when it is first asked for. Latents are normalised (zero
mean, unit deviation per channel) as everywhere.

Legend: N clips, C channels, T audio latent steps, M latent mel bins, f/h/w the video latents' grid, U slots of
phonemes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from datagen.world.clip import Take, World
from datagen.world.plan import ClipPlan
from datagen.world.pretrain.data import ShardSpec, open_or_draw
from datagen.world.pretrain.phonemes import label
from datagen.world.speech import Phoneme
from justdub.backbone.codecs import AudioCodec, VideoCodec
from justdub.errors import UsageError
from justdub.tokens import Geometry, audio_positions

SLOTS = 2  # labels of phonemes in an audio latent of 40 ms
_TOGETHER = 500  # clips between two reports


@dataclass(frozen=True)
class LatentSpec:
    """Which clips, as `ShardSpec`; `pictures` false leaves the video out: such clips are spoken but not drawn."""

    clips: int = 8000
    split: str = "base"
    seed: int = 0
    first: int = 0
    size: int = 96
    frames: int = 49
    pictures: bool = True

    @property
    def name(self) -> str:
        kind = f"{self.size}px" if self.pictures else "sound"
        return f"latents-{self.split}-{kind}-{self.frames}f-seed{self.seed}-{self.first}+{self.clips}"


@dataclass(frozen=True)
class LatentSet:
    """audio: float16 (N, C, T, M); video: float16 (N, C, f, h, w) and lips: bool (N, f, h, w), where a latent shows
    part of the lips, or None; captions: N prompts; phonemes: uint8 (N, U), `SLOTS` per audio latent."""

    spec: LatentSpec
    audio: Tensor
    video: Tensor | None
    lips: Tensor | None
    captions: list[str]
    phonemes: Tensor

    def __len__(self) -> int:
        return len(self.captions)


def open_or_encode(
    folder: Path,
    shards: Path,
    spec: LatentSpec,
    audio: AudioCodec,
    video: VideoCodec | None,
    report: Callable[[dict], None] | None,
) -> LatentSet:
    """The set of a specification in `folder`, encoded first (from clips in `shards`) if it is not there yet."""
    home = folder / spec.name
    if not (home / "latents.json").exists():
        if spec.pictures and video is None:
            raise UsageError(f"{spec.name} needs a video codec", remedy="video_codec: FOLDER")
        _encode(home, shards, spec, audio, video, report)
    pictures = load_file(home / "video.safetensors") if spec.pictures else {"latents": None, "lips": None}
    captions = json.loads((home / "captions.json").read_text(encoding="utf-8"))
    sound = load_file(home / "audio.safetensors")["latents"]
    if not (home / "phonemes.safetensors").exists():
        _label(home, spec, sound.shape[2], report)
    phonemes = load_file(home / "phonemes.safetensors")["classes"]
    return LatentSet(spec, sound, pictures["latents"], pictures["lips"], captions, phonemes)


def _encode(home: Path, shards: Path, spec: LatentSpec, audio: AudioCodec, video: VideoCodec | None, report) -> None:
    home.mkdir(parents=True, exist_ok=True)
    sounds, pictures, lips, captions = [], [], [], []
    for number, (take, frames) in enumerate(_clips(shards, spec, report)):
        sounds.append(audio.encode(take.samples[None])[0].half())
        if frames is not None:
            pictures.append(video.encode(frames.copy())[0].half())
            lips.append(lip_cells(take.mouth.box_F4, tuple(pictures[-1].shape[1:]), video.temporal_ratio))
        captions.append(take.caption)
        if report is not None and (number + 1) % _TOGETHER == 0:
            report({"drawing": spec.name, "clips": number + 1, "of": spec.clips})
    save_file({"latents": torch.stack(sounds)}, home / "audio.safetensors")
    if pictures:
        save_file({"latents": torch.stack(pictures), "lips": torch.stack(lips)}, home / "video.safetensors")
    _write(home / "captions.json", captions)
    _write(home / "latents.json", asdict(spec))  # last: its presence says that the rest is complete


def _label(home: Path, spec: LatentSpec, steps: int, report) -> None:
    """Say every clip again, to know what is heard when."""
    world = World(seed=spec.seed, size=spec.size, frames=spec.frames)
    start_T, end_T = audio_positions(steps, Geometry())[0].numpy().T
    shares_S = (np.arange(SLOTS) + 0.5) / SLOTS
    times_U = (start_T[:, None] + (end_T - start_T)[:, None] * shares_S).reshape(-1)
    classes_NU = np.zeros((spec.clips, len(times_U)), np.uint8)
    for done, (number, phonemes) in enumerate(_spoken(world, spec), 1):
        classes_NU[number] = label(phonemes, times_U)
        if report is not None and done % _TOGETHER == 0:
            report({"labelling": spec.name, "clips": done, "of": spec.clips})
    partial = home / "phonemes.partial"
    save_file({"classes": torch.from_numpy(classes_NU)}, partial)
    partial.replace(home / "phonemes.safetensors")


def _spoken(world: World, spec: LatentSpec) -> Iterator[tuple[int, Sequence[Phoneme]]]:
    """Every clip's number and phonemes, in any order."""
    for number, plan in _by_language(world, spec, range(spec.clips)):
        yield number, world.spoken(plan)


def _by_language(world: World, spec: LatentSpec, numbers: range) -> list[tuple[int, ClipPlan]]:
    """Plans of a set's clips with their numbers, sorted: changing the language loads a dictionary."""
    plans = [(number, world.plan(spec.first + number, spec.split)) for number in numbers]
    return sorted(plans, key=lambda pair: pair[1].language)


def lip_cells(box_F4: np.ndarray, grid: tuple[int, int, int], ratio: int) -> Tensor:
    """Latents (f, h, w) that show part of the lips; boxes as fractions of the frame, `ratio` frames per latent."""
    cells = np.zeros(grid, bool)
    for frame, (x0, y0, x1, y1) in enumerate(box_F4):
        rows = slice(max(0, int(y0 * grid[1])), int(np.ceil(y1 * grid[1])))
        columns = slice(max(0, int(x0 * grid[2])), int(np.ceil(x1 * grid[2])))
        cells[-(-frame // ratio), rows, columns] = True
    return torch.from_numpy(cells)


def _clips(shards: Path, spec: LatentSpec, report) -> Iterator[tuple[Take, np.ndarray | None]]:
    """Every clip's take (spoken again, which is quick) and its frames from the shard."""
    world = World(seed=spec.seed, size=spec.size, frames=spec.frames)
    drawn = None
    if spec.pictures:
        wanted = ShardSpec(spec.clips, spec.split, spec.seed, spec.size, spec.frames, spec.first, sound=True)
        drawn = open_or_draw(shards, wanted, report)
    for start in range(0, spec.clips, _TOGETHER):
        numbers = range(start, min(start + _TOGETHER, spec.clips))
        takes = {number: world.perform(plan) for number, plan in _by_language(world, spec, numbers)}
        for number in numbers:
            yield takes[number], None if drawn is None else drawn.frames[number]


def _write(path: Path, content: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
