"""Pairs of clips as a training set for dubbing adapters: `python -m datagen.world pairs --out DIR --split adapters`.

Both clips of a pair show the same person moving in the same way and saying the same in two languages, so each of them
is what a dub of the other should be. A pair's number is that of the world's clip:

    DIR/clips/000017_a.mp4, 000017_b.mp4    the two clips (`film`)
    DIR/clips/000017.json                   what is true of them; written last: a pair without it is not there
    DIR/masks/000017.mp4                    where the two may differ, white: mouth, chin and all that moves with the jaw
    DIR/dataset.json                        caption, media_path, reference_path, mask_path of every direction
    DIR/README.md                           the card; NAME.md of another list NAME.json

Legend: F frames, H = W = size, 4 = x0, y0, x1, y1 of a box in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datagen import film
from datagen.world import plan, splits
from datagen.world.clip import Take, World, WorldClip
from datagen.world.features import feature_centre
from datagen.world.folder import ClipFolder
from datagen.world.plan import ClipPlan
from datagen.world.speech import LANGUAGES
from datagen.world.voices import voice
from datagen.world.workers import spread
from justdub.dubbing.prompt import find_language, standard_prompt
from justdub.errors import UsageError

HALVES = ("a", "b")
LIST = "dataset.json"
PLAIN_SHARE = 1 / 3  # of the captions of speaking faces: what `justdub dub --text --language` builds
TOGETHER = 16  # pairs drawn in one go
_MARGIN = 4  # pixels of a 96-pixel frame around lips and chin
_FORMAT = 1

Plans = tuple[ClipPlan, ClipPlan]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """Which pairs.

    Attributes:
        count: pairs; first: number of the first clip looked at.
        languages: of the targets, codes; empty: all. Pairs without such a half are passed over.
        everything: also pairs in which the face does not speak or somebody laughs.

    Raises:
        UsageError: a count below 1, a first below 0, an unknown language or split.
    """

    count: int
    split: str
    first: int = 0
    languages: tuple[str, ...] = ()
    seed: int = 0
    everything: bool = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"{self.count} pairs", expected="1 or more")
        if self.first < 0 or self.seed < 0:
            raise UsageError(f"first {self.first}, seed {self.seed}", expected="0 or more")
        if self.split not in splits.SPLITS:
            raise UsageError(f"split {self.split!r}", expected="one of " + ", ".join(splits.SPLITS))
        for language in self.languages:
            if language not in LANGUAGES:
                raise UsageError(f"language {language!r}", expected="one of " + ", ".join(LANGUAGES))

    def wants(self, language: str) -> bool:
        """Whether clips of that language are targets."""
        return not self.languages or language in self.languages


def parse_languages(text: str | None) -> tuple[str, ...]:
    """Codes from "fr,de", "French" or nothing; UsageError for one that the world does not speak."""
    codes = []
    for name in (text or "").split(","):
        known = {word.casefold() for pair in LANGUAGES.items() for word in pair}
        if name.strip() and name.strip().casefold() not in known:
            raise UsageError(f"the drawn world does not speak {name.strip()!r}", expected=", ".join(LANGUAGES))
        if name.strip():
            codes.append(find_language(name))
    if text is not None and not codes:
        raise UsageError(f"languages {text!r}", expected="for example fr,de")
    return tuple(dict.fromkeys(codes))


def choose(world: World, request: Request) -> Iterator[Plans]:
    """The plans of the wanted pairs, in the order of their numbers."""
    found, number = 0, request.first
    while found < request.count:
        first = world.plan(number, request.split)
        number += 1
        if not request.everything and (first.scene_type != "dialogue" or first.laughs):
            continue
        second = plan.translate(first, voice(first.voice).kind.gender)
        if request.wants(first.language) or request.wants(second.language):
            found += 1
            yield first, second


@dataclass(frozen=True)
class Pair:
    """Two clips that belong together; mask_FHW: bool, where they may differ."""

    clips: tuple[WorldClip, WorldClip]
    mask_FHW: np.ndarray

    @property
    def number(self) -> int:
        return self.clips[0].take.plan.index


def draw(world: World, plans: Sequence[Plans]) -> list[Pair]:
    """Perform and draw."""
    batch = world.render([half for both in plans for half in both])
    clips = [(batch[at], batch[at + 1]) for at in range(0, len(batch), 2)]
    return [Pair(both, changing(both)) for both in clips]


def mouths(clips: Sequence[WorldClip], margin: float = _MARGIN) -> np.ndarray:
    """(F, 4): the box around the lips of all `clips`, frame by frame, `margin` 96ths of the frame larger each way."""
    boxes_CF4 = np.stack([clip.box_F4 for clip in clips])
    grown = margin * clips[0].frames.shape[1] / 96
    return np.concatenate((boxes_CF4[..., :2].min(0) - grown, boxes_CF4[..., 2:].max(0) + grown), -1)


def inside(box_F4: np.ndarray, size: int) -> np.ndarray:
    """(F, H, W) bool: pixels whose centres lie in the boxes."""
    at = np.arange(size) + 0.5
    x0, y0, x1, y1 = box_F4.T[:, :, None]
    return ((at > y0) & (at < y1))[:, :, None] & ((at > x0) & (at < x1))[:, None, :]


def to_chin(box_F4: np.ndarray, take: Take, size: int) -> np.ndarray:
    """(F, 4): boxes around the lips that reach below the chin."""
    chin_F2 = feature_centre(take.drawing.track.pose_F5, 0.0, take.drawing.face.chin)
    lower_F = np.maximum(box_F4[:, 3], (chin_F2[:, 1] + _MARGIN) * size / 96)
    return np.concatenate((box_F4[:, :3], lower_F[:, None]), -1)


def changing(clips: tuple[WorldClip, WorldClip]) -> np.ndarray:
    """(F, H, W) bool: from the upper lip to the chin, and every pixel beside a difference between the two clips.

    The jaw moves beards, hair and the outline of the face as well: these lie outside of any box around mouth and chin.
    """
    size = clips[0].frames.shape[1]
    box_F4 = to_chin(mouths(clips), clips[0].take, size)
    differs_FHW = (clips[0].frames != clips[1].frames).any(-1)
    padded = np.pad(differs_FHW, ((0, 0), (1, 1), (1, 1)))
    near = [padded[:, y : y + size, x : x + size] for y in range(3) for x in range(3)]
    return inside(box_F4, size) | np.logical_or.reduce(near)


def caption(take: Take) -> str:
    """The prompt of a clip; every third one of a speaking face is the plain one that the command line builds."""
    what = take.plan
    if what.scene_type != "dialogue" or take.laughter:
        return take.caption
    rng = np.random.default_rng([0xCA97, what.seed, splits.SPLITS.index(what.split), what.index, what.half])
    return standard_prompt(what.text, what.language).text if rng.uniform() < PLAIN_SHARE else take.caption


def open_folder(root: Path, request: Request) -> ClipFolder:
    """A folder of pairs; BadInputError where nothing can be written."""
    world = World(seed=request.seed)
    origin = {
        "format": _FORMAT, "seed": world.seed, "split": request.split, "size": world.size, "frames": world.frames,
        "frame_rate": str(world.frame_rate),
    }  # fmt: skip
    return ClipFolder(root, origin, tuple(f"_{half}" for half in HALVES))


def add(folder: ClipFolder, world: World, pair: Pair) -> None:
    """Write a pair."""
    rates = {"frame_rate": world.frame_rate, "sample_rate": world.sample_rate}
    encoded = (film.encode(clip.frames, clip.samples, **rates) for clip in pair.clips)
    halves = {name: _facts(clip.take) for name, clip in zip(HALVES, pair.clips, strict=True)}
    folder.add(pair.number, encoded, pair.mask_FHW, {"number": pair.number} | halves, **rates)


def write_list(
    folder: ClipFolder, request: Request, facts: Sequence[dict[str, Any]], command: str, name: str = LIST
) -> list[dict[str, str]]:
    """Write the list and the card of these pairs; returns the entries."""
    entries, directions, plain = [], {}, 0
    for pair in facts:
        first, second = folder.clips(pair["number"])
        for source, target, paths in (("a", "b", (second, first)), ("b", "a", (first, second))):
            if not request.wants(pair[target]["language"]):
                continue
            text, mask = pair[target]["caption"], folder.mask(pair["number"])
            entries.append({"caption": text, "media_path": paths[0], "reference_path": paths[1], "mask_path": mask})
            way = (pair[source]["language"], pair[target]["language"])
            directions[way] = directions.get(way, 0) + 1
            plain += text.startswith("The person is speaking")
    folder.put_json(name, entries)
    card = "README.md" if name == LIST else f"{Path(name).stem}.md"
    film.put(folder.root / card, _card(request, len(facts), directions, plain, command, name).encode())
    return entries


def _facts(take: Take) -> dict[str, Any]:
    """What is true of one clip, for JSON."""
    what = take.plan
    return {
        "caption": caption(take), "language": what.language, "text": what.text, "meaning": what.meaning.key,
        "voice": what.voice, "face": what.face, "style": what.style, "intensity": what.intensity,
        "scene_type": what.scene_type, "laughter": bool(take.laughter), "ambience": what.ambience,
        "occluder": what.scene.occluder,
    }  # fmt: skip


def _card(
    request: Request, pairs: int, directions: dict[tuple[str, str], int], plain: int, command: str, name: str
) -> str:
    """README.md of a folder."""
    total = sum(directions.values())
    rows = "".join(f"| {source} | {target} | {count} |\n" for (source, target), count in sorted(directions.items()))
    kinds = "all scene types" if request.everything else "the face speaks, nobody laughs"
    return f"""# {pairs} pairs of clips of the drawn world

Made by

    {command}

Split `{request.split}`, seed {request.seed}, first number {request.first}; {kinds}. Both clips of a pair show the same
face, movement, voice and style; the line is said in two languages. Nobody in them exists.

{total} examples in `{name}` (caption, media_path, reference_path, mask_path), of which {plain} have the plain
caption `The person is speaking LANGUAGE, saying: "..."`:

| from | to | examples |
|---|---|---|
{rows}
Clips: lossless H.264 in RGB and 16-bit FLAC at 16 kHz in MP4. Masks: white where the two clips of a pair may differ;
outside of it they are the same to the bit. `clips/NUMBER.json` says what is true of a pair.
"""


def write(
    root: Path,
    request: Request,
    *,
    name: str = LIST,
    workers: int = 1,
    command: str = "",
    progress: Progress | None = None,
) -> int:
    """Draw what is missing, then write the list; returns the number of examples.

    Args:
        name: of the list; a folder may have several, of some languages each.
        root: the folder. workers: processes, each on one core. command: for the card.
        progress: called as progress(pairs drawn, pairs to draw).
    """
    if Path(name).name != name or not name.endswith(".json"):
        raise UsageError(f"list {name!r}", expected="a file's name such as french.json")
    folder = open_folder(root, request)
    plans = list(choose(World(seed=request.seed), request))
    missing = [both for both in plans if folder.find(both[0].index) is None]
    parts = [missing[at : at + TOGETHER] for at in range(0, len(missing), TOGETHER)]
    done = 0
    for count in spread(partial(_add, root, request), parts, workers):
        done += count
        if progress is not None:
            progress(done, len(missing))
    facts = [folder.find(both[0].index) for both in plans]
    return len(write_list(folder, request, facts, command, name))


def _add(root: Path, request: Request, part: list[Plans]) -> int:
    """Draw one part and write it."""
    world, folder = World(seed=request.seed), open_folder(root, request)
    with folder.writing():
        for pair in draw(world, part):
            add(folder, world, pair)
    return len(part)
