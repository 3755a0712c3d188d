"""Held-out dubs of the drawn world as files, laid out as `justdub eval` reads them.

    FOLDER/source/000017.mp4   what is dubbed              FOLDER/masks/000017.mp4   white where it may change
    FOLDER/dubbed/000017.mp4   the dub, and its manifest   FOLDER/truth/000017.mp4   what a perfect dub would be
    FOLDER/texts.csv           name, text, language

Legend: F frames, H/W height/width, 3 RGB.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.errors import BadInputError
from justdub.evaluation.results import write_text
from justdub.evaluation.world.heldout import Tasks

_RATE = 25  # frames per second of the world
Progress = Callable[[int, int], None]


def write(
    folder: str | Path,
    pipe: DubPipeline,
    tasks: Tasks,
    settings: DubSettings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Dub every task with what `pipe` has loaded; returns the folder.

    Task i gets the seed `settings.seed` + i, as in `justdub eval dubs`: the same dubs, but through a file's codecs.
    What is there already under the same name is replaced; `texts.csv` is written last.

    Args:
        progress: called as progress(dubs done, dubs).

    Raises:
        BadInputError: the folder cannot be written.
    """
    from datagen import film

    folder, settings, rows = Path(folder), settings or DubSettings(), []
    for name in ("source", "dubbed", "truth", "masks"):
        _make(folder / name)
    for place, task in enumerate(tasks):
        name = f"{task.number:06d}"
        source = folder / "source" / f"{name}.mp4"
        film.put(source, film.encode(task.source.frames, task.source.samples, frame_rate=_RATE))
        film.put(folder / "truth" / source.name, film.encode(task.target.frames, task.target.samples, frame_rate=_RATE))
        white_FHW3 = np.repeat(~task.elsewhere_FHW[..., None], 3, axis=-1).astype(np.uint8) * 255
        film.put(folder / "masks" / source.name, film.encode(white_FHW3, None, frame_rate=_RATE))
        dub = pipe(source, prompt=task.prompt, settings=replace(settings, seed=settings.seed + place))
        dub.save(folder / "dubbed" / source.name)
        rows.append((name, task.target.text, task.target.language))
        if progress is not None:
            progress(place + 1, len(tasks))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("name", "text", "language"), *rows])
    write_text(folder / "texts.csv", out.getvalue())
    return folder


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be made: {error.strerror}", remedy="another folder") from error
