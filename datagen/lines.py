"""Where lines in two languages come from: a grammar, a user's table, or a local text model.

Every source is asked for one line at a time in two languages that mean the same.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Protocol

import numpy as np

from datagen.prompt import Line
from justdub.dubbing.prompt import LANGUAGES, find_language
from justdub.errors import BadInputError, MissingError, UsageError

_TRIES = 8  # of a text model, for one line


class Lines(Protocol):
    """A source of lines."""

    def draw(self, rng: np.random.Generator, one: str, other: str, gender: str) -> tuple[Line, Line]:
        """The same line in two languages; gender ("woman" or "man") of the speaker, which some languages show."""


def open_lines(source: str, languages: tuple[str, ...], split: str) -> Lines:
    """The source that `script.lines` names.

    Raises:
        MissingError, BadInputError, UsageError: it is not there, cannot be read, or does not speak the languages.
    """
    if source == "grammar":
        return Grammar(languages, split)
    path = Path(source).expanduser()
    if path.is_dir():
        return TextModel(path)
    if not path.is_file():
        raise MissingError(f"no lines at {source}", expected="grammar, a .csv or .jsonl file, or a text model's folder")
    return Table(path, languages)


class Grammar:
    """Sentences of `datagen.world.phrases`: five languages, true translations."""

    def __init__(self, languages: tuple[str, ...], split: str) -> None:
        from datagen.world import phrases, splits
        from datagen.world.speech import LANGUAGES as SPOKEN

        self._draw, self._split = phrases.draw, split
        if split not in splits.SPLITS:
            raise UsageError(f"script.split is {split!r}", expected=" or ".join(splits.SPLITS))
        if unknown := [language for language in languages if language not in SPOKEN]:
            raise UsageError(
                f"the grammar has no {LANGUAGES[unknown[0]]}", expected=", ".join(SPOKEN), remedy="script.lines: FILE"
            )

    def draw(self, rng: np.random.Generator, one: str, other: str, gender: str) -> tuple[Line, Line]:
        meaning = self._draw(rng, self._split)
        return Line(one, meaning.text(one, gender)), Line(other, meaning.text(other, gender))


class Table:
    """A user's CSV or JSONL: a row per line, a column per language (`en`, `fr` or `French`)."""

    def __init__(self, path: Path, languages: tuple[str, ...]) -> None:
        self.path = path
        self._rows = [_by_language(row, path, number) for number, row in enumerate(_rows(path), 1)]
        if not self._rows:
            raise BadInputError(f"{path} holds no lines", expected="a column per language and a row per line")
        for language in languages:
            if sum(language in row for row in self._rows) < 2:
                raise BadInputError(
                    f"{path} has fewer than two lines in {LANGUAGES[language]}",
                    expected=f"a column {language!r}",
                    remedy="add lines, or take the language out of script.languages",
                )

    def draw(self, rng: np.random.Generator, one: str, other: str, gender: str) -> tuple[Line, Line]:
        both = [row for row in self._rows if one in row and other in row]
        if len(both) < 2:
            raise BadInputError(
                f"{self.path} has {len(both)} lines in both {LANGUAGES[one]} and {LANGUAGES[other]}",
                expected="two or more",
            )
        row = both[int(rng.integers(len(both)))]
        return Line(one, row[one]), Line(other, row[other])


class TextModel:
    """A causal language model in a local folder (transformers layout, safetensors), asked for lines as JSON."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.folder = folder
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise BadInputError(
                f"{folder} is no text model: {reason}", expected="transformers layout, safetensors"
            ) from error

    def draw(self, rng: np.random.Generator, one: str, other: str, gender: str) -> tuple[Line, Line]:
        import torch

        ask = (
            f"Write one short everyday sentence that a {gender} says, in {LANGUAGES[one]}, and its translation into "
            f'{LANGUAGES[other]}, as JSON: {{"{one}": "...", "{other}": "..."}}\n'
        )
        tokens = self._tokenizer(ask, return_tensors="pt")
        for _ in range(_TRIES):
            torch.manual_seed(int(rng.integers(2**31)))
            with torch.no_grad():
                answer = self._model.generate(**tokens, max_new_tokens=96, do_sample=True, temperature=0.9)
            text = self._tokenizer.decode(answer[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
            if found := _parsed(text, one, other):
                return found
        raise BadInputError(
            f"{self.folder} answers {_TRIES} times with something else than lines",
            expected="an instruction-tuned model",
        )


def _parsed(text: str, one: str, other: str) -> tuple[Line, Line] | None:
    """The first JSON object of an answer, if it holds both lines."""
    start, end = text.find("{"), text.find("}")
    try:
        found = json.loads(text[start : end + 1])
        lines = Line(one, found[one].strip()), Line(other, found[other].strip())
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return lines if all(line.text for line in lines) else None


def _rows(path: Path) -> list[dict]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        elif path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        else:
            raise BadInputError(f"{path} is no table of lines", expected=".csv or .jsonl")
    except (UnicodeDecodeError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {error}", expected="UTF-8, a column per language") from error
    if bad := [number for number, row in enumerate(rows, 1) if not isinstance(row, dict)]:
        raise BadInputError(f"{path}: row {bad[0]} has no columns", expected="a column per language")
    return rows


def _by_language(row: dict, path: Path, number: int) -> dict[str, str]:
    """Texts by code; columns that are no languages are left alone."""
    found = {}
    for column, text in row.items():
        try:
            language = find_language(str(column))
        except UsageError:
            continue
        if text is not None and not isinstance(text, str):
            raise BadInputError(f"{path}: row {number}, {column} is {text!r}", expected="a text")
        if text and text.strip():
            found[language] = text.strip()
    return found
