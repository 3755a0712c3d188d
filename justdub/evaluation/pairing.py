"""Which dub belongs to which source: by name, with everything that is known of the pair.

A missing or unreadable file becomes a fault of that pair in one line; only folders that fit nowhere end the run.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path

from justdub.errors import BadInputError, UsageError
from justdub.evaluation.cache import Cache
from justdub.evaluation.sample import Clip, Recording, Sample
from justdub.evaluation.settings import EvalSettings
from justdub.evaluation.tools import Tools

VIDEO = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m4v"}
SOUND = VIDEO | {".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"}
MASK = VIDEO | {".png"}
COLUMNS = ("name", "text", "language", "difficulty", "emotion")


@dataclass(frozen=True)
class Pairs:
    """samples: one per source clip. faults: lines about what does not fit, not tied to a sample."""

    samples: tuple[Sample, ...]
    faults: tuple[str, ...]


def find(settings: EvalSettings, tools: Tools, cache: Cache) -> Pairs:
    """Pair the folders.

    Raises:
        UsageError: no such folder. BadInputError: no source has a dub, or the table of texts cannot be read.
    """
    sources, dubs = _files(settings.source, VIDEO), _files(settings.dubbed, VIDEO)
    faults = [f"{settings.dubbed}: {path.name} has no source" for name, path in dubs.items() if name not in sources]
    if not sources.keys() & dubs.keys():
        raise BadInputError(
            f"no name in {settings.dubbed} ({len(dubs)} clips) is also in {settings.source} ({len(sources)} clips)",
            expected="a dub under the name of its source, for example a.mp4 and a.mp4",
        )
    texts = read_texts(Path(settings.texts)) if settings.texts else {}
    faults += [f"{settings.texts}: no source is called {name!r}" for name in texts if name not in sources]
    beside = {
        "truth": _files(settings.truth, SOUND) if settings.truth else {},
        "voice": _files(settings.voices, SOUND) if settings.voices else {},
        "stem": _files(settings.stems, SOUND) if settings.stems else {},
    }
    masks = _files(settings.masks, MASK) if settings.masks else {}
    names = sorted(sources)
    if settings.clips:
        names = sorted(random.Random(settings.seed).sample(names, min(settings.clips, len(names))))
    samples = []
    for name in names:
        row = texts.get(name, {})
        recordings = {
            what: Recording(files[name], cache, longest=settings.longest)
            for what, files in beside.items()
            if name in files
        }
        samples.append(
            Sample(
                name=name,
                source=Clip(sources[name], cache, longest=settings.longest),
                dubbed=Clip(dubs[name], cache, longest=settings.longest) if name in dubs else None,
                fault="" if name in dubs else f"{name}: no dub in {settings.dubbed}",
                tools=tools,
                text=row.get("text", ""),
                language=row.get("language", "") or settings.language,
                difficulty=row.get("difficulty", ""),
                emotion=row.get("emotion", ""),
                masks=masks.get(name),
                **recordings,
            )
        )
    return Pairs(tuple(samples), tuple(faults))


def _files(folder: str, endings: set[str]) -> dict[str, Path]:
    """Name without ending -> file, hidden ones left out."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UsageError(f"no folder {folder}")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in endings and not file.name.startswith(".") and file.is_file():
            if file.stem in found:
                raise BadInputError(
                    f"{folder} holds both {found[file.stem].name} and {file.name}", expected="one of them"
                )
            found[file.stem] = file
    return found


def read_texts(path: Path) -> dict[str, dict[str, str]]:
    """Name -> row of a .csv or .tsv with a header; names may carry the clip's ending.

    Raises:
        UsageError: no such file. BadInputError: not UTF-8, no header, an unknown column or a name twice.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8", remedy="save it as UTF-8") from error
    reader = csv.DictReader(content.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    columns = reader.fieldnames or []
    unknown = [column for column in columns if column not in COLUMNS]
    if "name" not in columns or unknown:
        raise BadInputError(
            f"{path} has the columns {', '.join(columns) or 'none'}",
            expected=f"`name` and some of {', '.join(COLUMNS[1:])}, in the first line",
        )
    rows: dict[str, dict[str, str]] = {}
    for number, row in enumerate(reader, 2):
        name = (row["name"] or "").strip()
        name = Path(name).stem if Path(name).suffix.lower() in VIDEO else name
        if name in rows:
            raise BadInputError(f"{path}, line {number}: {name!r} comes twice")
        rows[name] = {column: (row[column] or "").strip() for column in columns if column != "name"}
    return rows
