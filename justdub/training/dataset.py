"""The list of training pairs: what JUST-DUB-IT and the LTX-2 trainer write, read strictly.

An entry names a target clip (what should come out), a reference clip (the source; not needed where none is ever used),
a caption (the target's prompt) and, if there is one, a video mask of the face. JSON (a list), JSONL and CSV are read;
columns may have either project's names. Paths are relative to the list and stay inside of its folder, so that a list
from elsewhere cannot make this program read other files.

A fault in one entry does not stop the reading: every entry is looked at, and all faults are reported together.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from justdub.errors import BadInputError, MissingError

# Field: the columns that mean it, in the order of preference. The first is JUST-DUB-IT's.
COLUMNS = {
    "caption": ("caption", "prompt"),
    "later": ("then",),
    "target": ("media_path", "video"),
    "reference": ("reference_path", "ref_media_path", "reference_video"),
    "mask": ("mask_path", "face_mask"),
}
_CAPTION_LIMIT = 4000  # characters; a prompt is a sentence or a few


@dataclass(frozen=True)
class Pair:
    """One training example.

    Attributes:
        target, reference, mask: absolute paths of existing files; reference or mask None for none.
        caption: the prompt of the target. later: further prompts, each from a time of the target on (seconds, text).
        entry: its place in the list, from 1.
    """

    target: Path
    reference: Path | None
    mask: Path | None
    caption: str
    entry: int
    later: tuple[tuple[float, str], ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        return (self.caption, *(text for _, text in self.later))


@dataclass(frozen=True)
class Fault:
    """An entry that cannot be used, and why, in one line."""

    entry: int
    reason: str

    def __str__(self) -> str:
        return f"entry {self.entry}: {self.reason}"


@dataclass(frozen=True)
class PairList:
    """What a list holds. `ignored`: columns that were not used."""

    path: Path
    pairs: tuple[Pair, ...]
    faults: tuple[Fault, ...]
    ignored: tuple[str, ...]


def read_pairs(path: str | Path, *, outside: bool = False, references: bool = True) -> PairList:
    """Read a list of pairs.

    Args:
        path: dataset.json, .jsonl or .csv.
        outside: allow paths that leave the list's folder, absolute ones among them.
        references: every entry must have one.

    Raises:
        MissingError: no such file.
        BadInputError: it is no list of entries, or holds none that can be used.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"no dataset at {path}", expected="a .json, .jsonl or .csv file")
    pairs, faults, seen, used, columns = [], [], {}, set(), {}
    optional = ("mask", "later") if references else ("mask", "later", "reference")
    for number, entry in _entries(path):
        found = (
            _pair(entry, number, path.parent, outside, optional)
            if isinstance(entry, dict)
            else _no_entry(entry, number)
        )
        if isinstance(found, Pair):
            key = (found.target, found.reference, found.prompts)
            if key in seen:
                found = Fault(number, f"the same as entry {seen[key]}")
            else:
                seen[key] = number
                pairs.append(found)
        if isinstance(found, Fault):
            faults.append(found)
        if isinstance(entry, dict):
            columns |= dict.fromkeys(map(str, entry))
            used |= {_column(entry, field) for field in COLUMNS}
    if not pairs:
        first = f"; {faults[0]}" if faults else ""
        raise BadInputError(f"{path} holds no pair that can be used{first}", expected=_EXPECTED)
    ignored = tuple(name for name in columns if name not in used)
    return PairList(path, tuple(pairs), tuple(faults), ignored)


_EXPECTED = "entries of caption, media_path, reference_path and, if wanted, mask_path"


def _entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered entries of the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text ({error.reason})", expected=_EXPECTED) from error
    kind = path.suffix.lower()
    if kind == ".json":
        try:
            content = json.loads(text)
        except ValueError as error:
            raise BadInputError(f"{path} is not JSON: {error}", expected="a list of entries") from error
        if not isinstance(content, list):
            raise BadInputError(f"{path} holds {_kind(content)}", expected="a list of entries")
        yield from enumerate(content, 1)
    elif kind == ".jsonl":
        number = 0
        for line in text.splitlines():
            if not line.strip():
                continue
            number += 1
            try:
                yield number, json.loads(line)
            except ValueError as error:
                yield number, Fault(number, f"not JSON ({error})")
    elif kind == ".csv":
        reader = csv.DictReader(text.splitlines())
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                yield number, Fault(number, f"another number of columns than the head's {len(reader.fieldnames or ())}")
            else:
                yield number, row
    else:
        raise BadInputError(f"{path} is no list of pairs", expected=".json, .jsonl or .csv")


def _no_entry(entry: Any, number: int) -> Fault:
    return entry if isinstance(entry, Fault) else Fault(number, f"{_kind(entry)}, expected keys and values")


def _kind(value: Any) -> str:
    names = {dict: "keys and values", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _column(entry: dict[str, Any], field: str) -> str | None:
    """The column of an entry that holds a field."""
    return next((name for name in COLUMNS[field] if name in entry), None)


def _pair(entry: dict[str, Any], number: int, folder: Path, outside: bool, optional: tuple[str, ...]) -> Pair | Fault:
    values: dict[str, str] = {}
    later: tuple[tuple[float, str], ...] | str = ()
    for field, names in COLUMNS.items():
        column = _column(entry, field)
        value = entry.get(column) if column else None
        if value is None or value == "":
            if field in optional:
                continue
            return Fault(number, f"no {names[0]}")
        if field == "later":
            later = _later(value)
            if isinstance(later, str):
                return Fault(number, f"{column} {later}")
            continue
        if not isinstance(value, str):
            return Fault(number, f"{column} is {_kind(value)}, expected a text")
        values[field] = value
    caption = values["caption"].strip()
    if not caption:
        return Fault(number, "the caption is empty")
    if len(caption) > _CAPTION_LIMIT:
        return Fault(number, f"a caption of {len(caption)} characters, expected at most {_CAPTION_LIMIT}")
    paths: dict[str, Path] = {}
    for field in ("target", "reference", "mask"):
        if field not in values:
            continue
        found = _inside(values[field], folder, outside)
        if isinstance(found, str):
            return Fault(number, f"{_column(entry, field)} {values[field]!r} {found}")
        paths[field] = found
    if paths["target"] == paths.get("reference"):
        return Fault(number, "target and reference are the same file")
    return Pair(paths["target"], paths.get("reference"), paths.get("mask"), caption, number, later)


def _later(value: Any) -> tuple[tuple[float, str], ...] | str:
    """Prompts that follow the first one, or what is wrong with them."""
    wrong = f"is {_kind(value)}, expected a list of [seconds, prompt], the seconds rising"
    if not isinstance(value, list) or not all(isinstance(one, list) and len(one) == 2 for one in value):
        return wrong
    if not all(type(at) in (int, float) and isinstance(text, str) and text.strip() for at, text in value):
        return wrong
    times = [0.0, *(float(at) for at, _ in value)]
    if any(after <= before for before, after in pairwise(times)):
        return wrong
    return tuple((float(at), text.strip()) for at, text in value)


def _inside(text: str, folder: Path, outside: bool) -> Path | str:
    """The file that a path in a list means, or what is wrong with it."""
    if "\0" in text or "://" in text:
        return "is no path of a file"
    path = (folder / text).resolve()
    if not outside and not path.is_relative_to(folder.resolve()):
        return "leaves the list's folder; try: --allow-outside"
    if not path.exists():
        return "does not exist"
    if not path.is_file():
        return "is no file"
    if path.stat().st_size == 0:
        return "is empty"
    return path
