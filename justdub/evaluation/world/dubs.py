"""Dubs of held-out clips of the drawn world, beside what a perfect one would be.

Each task is half of a pair: the source is dubbed into the other half's language with the other half's prompt. Rows:
`truth` (the other half as drawn), `coded` (it through the codecs and the vocoder: what a perfect transformer could
reach), `copy` (the source as it is), `base` (the backbone with the reference, no adapter), one row per adapter (or per
set of adapters, one for each target language), and `shuffled` (true targets with each other's sound: the level of
chance).

Legend: F frames, H/W height/width, S samples, C channels.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from justdub.dubbing.manifest import file_digest, versions
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import SAMPLING, DubSettings
from justdub.errors import BadInputError
from justdub.evaluation.world.dubbed import COLUMNS, LEGEND, DubScores, Voices, difference, figure, judge_dub
from justdub.evaluation.world.heldout import SPLIT, Task, Tasks
from justdub.evaluation.world.judges import Judges
from justdub.evaluation.world.sound import SAMPLE_RATE
from justdub.evaluation.world.table import markdown
from justdub.lora.files import AdapterFile
from justdub.lora.reference import Strength
from justdub.media import resize_frames
from justdub.media.picture import Glance, draw
from justdub.media.png import write_png

BASE, SHUFFLED = "base", "shuffled"
_POOL = 32  # voices from which each task's other ones are taken
_SHEET, _COLUMNS, _GAP = 6, 5, 8  # clips of the contact sheet, frames of each cell, pixels between cells

Progress = Callable[[str, int, int], None]


class Made(NamedTuple):
    """What stands for a dub: frames uint8 (F, H, W, 3), samples float32 (S,)."""

    frames: np.ndarray
    samples: np.ndarray


Maker = Callable[[int, Task], Made | None]  # called with the task's place and the task


class Adapter(NamedTuple):
    """One row: its name, the file (or one for each target language, by its code), and how strongly it is applied."""

    row: str
    file: AdapterFile | Mapping[str, AdapterFile]
    strength: Strength = Strength()

    def files(self) -> tuple[AdapterFile, ...]:
        return tuple(self.file.values()) if isinstance(self.file, Mapping) else (self.file,)

    def of(self, language: str) -> AdapterFile:
        return self.file[language] if isinstance(self.file, Mapping) else self.file


@dataclass
class Outcome:
    """scores: of every task, by row. about: settings, versions, adapters. tasks: one line of facts each. cells: of the
    contact sheet, by column (source, truth and every dub), one per task."""

    scores: dict[str, list[DubScores | None]]
    about: dict[str, Any]
    tasks: list[dict[str, Any]]
    cells: dict[str, list[np.ndarray]]

    def markdown(self) -> str:
        """The table."""
        rows = {
            name: {column: figure(row, column).value for column in COLUMNS} for name, row in self._ordered().items()
        }
        return markdown(rows, COLUMNS)

    def _ordered(self) -> dict[str, list[DubScores | None]]:
        last = {SHUFFLED: self.scores[SHUFFLED]} if SHUFFLED in self.scores else {}
        return {name: row for name, row in self.scores.items() if name != SHUFFLED} | last

    def plain(self) -> dict[str, Any]:
        """For JSON: figures with intervals, differences from the base row, values of every clip."""
        rows, base = self._ordered(), self.scores.get(BASE)
        against = {} if base is None else {name: row for name, row in rows.items() if name not in (BASE, SHUFFLED)}
        return self.about | {
            "rows": {name: {key: figure(row, key).plain() for key in COLUMNS} for name, row in rows.items()},
            "minus_base": {
                name: {key: difference(row, base, key).plain() for key in COLUMNS if key != "clips"}
                for name, row in against.items()
            },
            "clips": [
                task | {"rows": {name: row[place].plain() for name, row in rows.items() if row[place] is not None}}
                for place, task in enumerate(self.tasks)
            ],
        }

    def sheet(self) -> np.ndarray:
        """(H', W', 3) uint8: a row per clip; source, truth and every dub side by side, each over its spectrogram."""
        columns = [np.concatenate(cells) for cells in self.cells.values()]
        gap = np.zeros((len(columns[0]), _GAP, 3), np.uint8)
        return np.concatenate([part for column in columns for part in (column, gap)][:-1], axis=1)


def run(
    pipe: DubPipeline | None,
    judges: Judges,
    tasks: Tasks,
    *,
    adapters: Sequence[Adapter] = (),
    controls: bool = True,
    any_base: bool = False,
    settings: DubSettings | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Dub and judge. The adapters are put on one after the other; the pipeline is left without any.

    Args:
        controls: also the rows that are not adapters'.
        pipe: None for the rows that need no model: truth, copy, shuffled.
        settings: task i gets the seed `settings.seed` + i in every row. any_base: as of `DubPipeline.load_adapter`.
        progress: called as progress("draw" or "generate", clips done, clips).

    Raises:
        BadInputError: the backbone's sound is not what the judges hear (16 kHz), or an adapter does not fit.
    """
    report = progress or (lambda stage, done, total: None)
    settings = settings or DubSettings()
    if pipe is not None:
        _check_rate(pipe)
        pipe.unload_adapters()
        for adapter in adapters:  # an adapter that does not fit is refused now, not after the base's dubs
            for file in adapter.files():
                pipe.load_adapter(file, adapter.strength, any_base=any_base)
                pipe.unload_adapters()
    outcome = Outcome({}, _about(pipe, tasks, settings), [], {})
    voices, others = Voices(judges, tasks.voices(_POOL)), tasks.other_sounds()

    def shuffled(place: int, task: Task) -> Made | None:
        return None if others[place] is None else Made(task.target.frames, others[place])

    makers: dict[str, Maker] = {
        "source": lambda place, task: Made(task.source.frames, task.source.samples),
        "truth": lambda place, task: Made(task.target.frames, task.target.samples),
    }
    if pipe is not None:
        makers["coded"] = lambda place, task: coded(pipe, task)
    makers |= {"copy": makers["source"], SHUFFLED: shuffled}
    if not controls:
        makers = {name: makers[name] for name in ("source", "truth")}
    _measure(outcome, judges, voices, tasks, makers, lambda done: report("draw", done, len(tasks)))
    if pipe is None:
        return outcome
    plan = (None, *adapters) if controls else tuple(adapters)
    for number, adapter in enumerate(plan):
        name = BASE if adapter is None else adapter.row
        before, total, began = number * len(tasks), len(plan) * len(tasks), time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="justdub-") as folder:
            maker = dubber(pipe, settings, Path(folder) / "source.mp4")
            if adapter is not None:
                maker = _with_adapter(pipe, maker, adapter, any_base)
            try:
                _measure(
                    outcome, judges, voices, tasks, {name: maker},
                    lambda done, before=before, total=total: report("generate", before + done, total),
                )  # fmt: skip
                outcome.about["dubs"][name] = _about_row(pipe, adapter, settings, time.perf_counter() - began)
            finally:
                pipe.unload_adapters()
    return outcome


def _with_adapter(pipe: DubPipeline, maker: Maker, adapter: Adapter, any_base: bool) -> Maker:
    """A maker that puts the right file on before it dubs."""
    worn: list[AdapterFile] = []

    def make(place: int, task: Task) -> Made | None:
        file = adapter.of(task.target.language)
        if worn != [file]:
            pipe.unload_adapters()
            pipe.load_adapter(file, adapter.strength, any_base=any_base)
            worn[:] = [file]
        return maker(place, task)

    return make


def _measure(
    outcome: Outcome,
    judges: Judges,
    voices: Voices,
    tasks: Tasks,
    makers: Mapping[str, Maker],
    report: Callable[[int], None],
) -> None:
    """One pass over the tasks: make, judge, and keep the first few for the sheet."""
    first_pass = not outcome.tasks
    for place, task in enumerate(tasks):
        if first_pass:
            outcome.tasks.append(_about_task(task))
        for name, maker in makers.items():
            made = maker(place, task)
            if name not in ("coded", "copy", SHUFFLED) and place < _SHEET:
                outcome.cells.setdefault(name, []).append(_cell(made))
            if name == "source":
                continue
            scored = None
            if made is not None:
                scored = judge_dub(judges, voices, task, made.frames, made.samples, picture=name != SHUFFLED)
            outcome.scores.setdefault(name, []).append(scored)
        report(place + 1)


def dubber(pipe: DubPipeline, settings: DubSettings, path: Path) -> Maker:
    """Dubs with what is loaded; each source is written to `path` without loss, which is what the pipeline reads."""
    from datagen import film

    def make(place: int, task: Task) -> Made:
        source = task.source
        film.put(path, film.encode(source.frames, source.samples, frame_rate=25))
        dub = pipe(path, prompt=task.prompt, settings=replace(settings, seed=settings.seed + place))
        height, width = source.frames.shape[1:3]
        frames = dub.frames_FHW3
        if frames.shape[1:3] != (height, width):
            frames = resize_frames(frames, (width, height))
        return Made(frames, dub.audio_CS.mean(0))

    return make


def coded(pipe: DubPipeline, task: Task) -> Made:
    """The target through the codecs and the vocoder."""
    video, audio, target = pipe.backbone.video_codec, pipe.backbone.audio_codec, task.target
    frames = video.decode(video.encode(target.frames.copy())).numpy()
    sound = audio.decode(audio.encode(target.samples[None].repeat(audio.channels, 0))).numpy()
    return Made(frames[: len(target.frames)], sound[:, : len(target.samples)].mean(0))


def row_names(names: Sequence[tuple[str, Strength]]) -> list[str]:
    """Rows of adapters that were named so: `fr`, `dub:0.5`; a folder's name for its adapter.safetensors."""
    taken = {"truth", "coded", "copy", BASE, SHUFFLED, "source"}
    found = []
    for text, strength in names:
        path = Path(text)
        stem = path.parent.name if path.stem == "adapter" and path.parent.name else path.stem
        label = name = stem if str(strength) == "1" else f"{stem}:{strength}"
        number = 2
        while name in taken:
            name, number = f"{label} ({number})", number + 1
        taken.add(name)
        found.append(name)
    return found


def _check_rate(pipe: DubPipeline) -> None:
    audio = pipe.backbone.audio_codec
    if (audio.sample_rate, audio.output_rate) != (SAMPLE_RATE, SAMPLE_RATE):
        raise BadInputError(
            f"{pipe.backbone.card.name} makes sound at {audio.output_rate} Hz",
            expected="16 kHz, as in the drawn world",
            remedy="evaluate it on real footage",
        )


def _about(pipe: DubPipeline | None, tasks: Tasks, settings: DubSettings) -> dict[str, Any]:
    chosen = {"split": SPLIT, "pairs": len(tasks), "first": tasks.first, "to": list(tasks.languages)}
    found: dict[str, Any] = {"tasks": chosen, "settings": asdict(settings), "versions": versions(), "dubs": {}}
    if pipe is not None:
        backbone = pipe.backbone
        found["backbone"] = {
            "name": backbone.card.name,
            "fingerprint": backbone.fingerprint,
            "dtype": str(backbone.transformer.dtype).removeprefix("torch."),
            "device": str(backbone.transformer.device),
        }
    return found


def _about_row(pipe: DubPipeline, adapter: Adapter | None, settings: DubSettings, seconds: float) -> dict[str, Any]:
    rules = replace(pipe.rules, **({"reference": settings.reference} if settings.reference else {}))
    filled = pipe.filled(settings)
    sampling = {name: getattr(filled, name) for name in SAMPLING}
    found: dict[str, Any] = {"rules": asdict(rules), "sampling": sampling, "seconds": round(seconds, 1)}
    if adapter is not None:
        paths = [file.path for file in adapter.files()]
        files = [{"path": str(path), "sha256": file_digest(path)} for path in paths]
        found |= {"files": files, "strength": str(adapter.strength)}
    return found


def _about_task(task: Task) -> dict[str, Any]:
    return {
        "number": task.number, "from": task.source.language, "to": task.target.language, "old": task.source.text,
        "new": task.target.text, "prompt": task.prompt,
    }  # fmt: skip


def _cell(made: Made) -> np.ndarray:
    """A few frames over the spectrogram, and some room below."""
    places = np.linspace(0, len(made.frames) - 1, _COLUMNS + 2).round().astype(int)[1:-1]
    picture = draw([Glance(made.frames[places], made.samples)])
    return np.pad(picture, ((0, _GAP), (0, 0), (0, 0)))


def write(outcome: Outcome, folder: Path) -> list[Path]:
    """`table.md`, `scores.json` and `sheet.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("table.md", "scores.json", "sheet.png")]
    paths[0].write_text(f"{outcome.markdown()}\n{LEGEND}", encoding="utf-8")
    paths[1].write_text(json.dumps(outcome.plain(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    write_png(paths[2], outcome.sheet())
    return paths
