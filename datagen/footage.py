"""Pairs from a user's own talking clips: what stands for stages 1 to 3 when there is footage.

A table names each clip with its line, and the same line in another language; the clip itself becomes the target, and
its reference is inpainted in that other language. This is how an adapter for a new domain is made.

    file,language,text,to,translation,speaker
    talk.mp4,en,"Good morning.",fr,"Bonjour.",The woman
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen.prompt import Line
from datagen.script import Half, Script
from datagen.split import Span
from datagen.store import Rejected
from datagen.tools import RATE, Tools
from justdub.dubbing.prompt import DEFAULT_SPEAKER, find_language
from justdub.dubbing.size import working_size
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.evaluation.metrics.overlap import active

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_COLUMNS = ("file", "language", "text", "to", "translation")


@dataclass(frozen=True)
class Footage:
    """One clip of a folder with its lines."""

    path: Path
    script: Script


def find(folder: Path, lines: Path | None) -> list[Footage]:
    """The clips of a folder, by name.

    Args:
        lines: the table; None: clips without lines, of which masks can be made, but no pairs.

    Raises:
        MissingError, BadInputError: nothing there, or a table that does not fit.
    """
    if not folder.is_dir():
        raise MissingError(f"no folder {folder}", expected="a folder of clips")
    if lines is None:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise BadInputError(f"{folder} holds no clips", expected=", ".join(SUFFIXES))
        nothing = Half(Line("en", ""), Line("en", ""))
        return [Footage(path, Script(n, DEFAULT_SPEAKER, "", (nothing,))) for n, path in enumerate(paths)]
    return [Footage(path, script) for path, script in _rows(folder, lines)]


def _rows(folder: Path, lines: Path) -> Iterator[tuple[Path, Script]]:
    if not lines.is_file():
        raise MissingError(f"no table {lines}", expected=f"CSV with the columns {', '.join(_COLUMNS)}")
    try:
        rows = list(csv.DictReader(lines.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise BadInputError(f"{lines} is not UTF-8 text") from error
    if not rows:
        raise BadInputError(f"{lines} has no rows", expected=f"the columns {', '.join(_COLUMNS)}")
    for number, row in enumerate(rows):
        missing = [name for name in _COLUMNS if not (row.get(name) or "").strip()]
        if missing:
            raise BadInputError(f"{lines}: row {number + 1} has no {missing[0]}", expected=", ".join(_COLUMNS))
        path = (folder / row["file"]).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise BadInputError(f"{lines}: row {number + 1}: no clip {row['file']} in {folder}")
        try:
            one, other = find_language(row["language"]), find_language(row["to"])
        except UsageError as error:
            raise BadInputError(f"{lines}: row {number + 1}: {error}") from error
        half = Half(Line(one, row["text"].strip()), Line(other, row["translation"].strip()))
        yield path, Script(number, (row.get("speaker") or "").strip() or DEFAULT_SPEAKER, "", (half,))


def generate(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A clip at the backbone's working size, cut to the model's grid of frames."""
    from justdub.media import probe

    path = tools.footage[number].path
    info = probe(path)
    if info.audio is None:
        raise Rejected("the clip has no sound")
    geometry = tools.geometry
    size = tuple(tools.job.generate.size)
    if not size:
        width, height = tools.pipe.backbone.card.size
        size = working_size(info.display_aspect, width * height, geometry.pixels_per_token)
    frames = min(info.video.frames, tools.job.generate.frames)
    count = 1 + (frames - 1) // geometry.frames_per_latent * geometry.frames_per_latent
    film = tools.read(path, count, size)
    return {"by": "footage", "path": path.name, "size": list(size), "frames": count}, {".mp4": tools.encode(film)}


def split(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The whole clip is one part; where its speech is."""
    film = tools.read(tools.store("generate").path(number, ".mp4"))
    if np.abs(film.samples).max(initial=0) < 1e-3:
        raise Rejected("the clip is silent")
    if len(film.frames) < tools.job.split.shortest * film.rate:
        raise Rejected(f"the clip is {len(film.frames) / film.rate:.2f} s short")
    places = np.flatnonzero(active(film.samples))
    seconds = len(film.samples) / RATE
    end = min((int(places[-1]) + 1) / 100, seconds)
    return {"spans": [Span(0, len(film.frames), (int(places[0]) / 100, end)).plain()]}, {}
