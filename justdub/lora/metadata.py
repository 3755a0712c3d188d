"""What an adapter says about itself: the strings in its file's header, and what they mean.

Other tools ignore these keys; a file without them says nothing, and every field has its empty value. Light: torch is
loaded only for a header that has rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from justdub.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from justdub.sequence import SequenceRules

FORMAT = "2"
READABLE = ("1", FORMAT)  # "1" had rules and languages only
PREFIX = "justdub."
FORMAT_KEY, RULES_KEY, LANGUAGES_KEY = f"{PREFIX}format", f"{PREFIX}rules", f"{PREFIX}languages"
GENERATIONS = ("2.0", "2.3")


@dataclass(frozen=True)
class AdapterMetadata:
    """How an adapter is run and where it comes from. An empty value means that the file does not say.

    Attributes:
        rules: how its sequences are built.
        languages: that it was trained for, ISO 639 codes.
        base: name in the card of the backbone that it was trained on.
        generation: of that backbone: "2.0", or "2.3" for those with text modulation.
        fingerprint: `checkpoint.fingerprint` of that backbone.
        rank, alpha: of the training job. The factors in a file are folded, so that their scale is 1.
        targets: the modules that were trained, as the job names them.
        prompt: template of its prompts.
        condition_dropout: shares of the exclusive condition states that training drew, e.g. ``{"no_text": 0.1}``.
        sampling: how it is best run, by names of `dubbing.settings.SAMPLING`, e.g. ``{"audio_guidance": 2.0}``.
        steps: that it was trained for.
        recipe: sha256 of the training job, 64 hex digits.
        licence: of the weights.
    """

    rules: SequenceRules | None = None
    languages: tuple[str, ...] = ()
    base: str = ""
    generation: str = ""
    fingerprint: str = ""
    rank: int = 0
    alpha: float = 0.0
    targets: tuple[str, ...] = ()
    prompt: str = ""
    condition_dropout: Mapping[str, float] = field(default_factory=dict)
    sampling: Mapping[str, float] = field(default_factory=dict)
    steps: int = 0
    recipe: str = ""
    licence: str = ""

    def to_strings(self) -> dict[str, str]:
        """The header: one string per field that has a value, and the format's version."""
        header = {FORMAT_KEY: FORMAT}
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if not value and name != "languages":
                continue
            if name == "rules":
                header[PREFIX + name] = json.dumps(asdict(value))
            elif isinstance(value, Mapping):
                header[PREFIX + name] = json.dumps(dict(value))
            elif isinstance(value, tuple):
                header[PREFIX + name] = ",".join(value)
            else:
                header[PREFIX + name] = str(value)
        return header

    @classmethod
    def from_strings(cls, path: str | Path, header: Mapping[str, str]) -> AdapterMetadata:
        """Read a header; keys that are not ours are left alone.

        Raises:
            BadInputError: of a newer format, or with a value that makes no sense. `path` names the file in the error.
        """
        if header.get(FORMAT_KEY, FORMAT) not in READABLE:
            raise BadInputError(
                f"adapter {path} has format {header[FORMAT_KEY]!r}",
                expected=" or ".join(READABLE),
                remedy="a newer justdub",
            )
        try:
            values = {
                f.name: _READERS[f.name](header[PREFIX + f.name]) for f in fields(cls) if PREFIX + f.name in header
            }
        except (ValueError, TypeError, AttributeError, UsageError) as error:
            raise BadInputError(
                f"adapter {path} has metadata that this version cannot read ({error})", remedy="a newer justdub"
            ) from error
        return cls(**values)


def _rules(text: str) -> SequenceRules:
    from justdub.sequence import SequenceRules

    raw: dict[str, Any] = json.loads(text)
    if unknown := sorted(set(raw) - {f.name for f in fields(SequenceRules)}):
        raise ValueError(f"unknown rule {unknown[0]!r}")
    return SequenceRules(**raw)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _generation(text: str) -> str:
    if text not in GENERATIONS:
        raise ValueError(f"generation {text!r}")
    return text


def _numbers(text: str) -> dict[str, float]:
    return {str(name): _number(value) for name, value in json.loads(text).items()}


def _count(text: str) -> int:
    if (number := int(text)) < 0:
        raise ValueError(f"a count of {number}")
    return number


def _number(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"a number {text!r}")
    return number


_READERS = {
    "rules": _rules,
    "languages": _names,
    "base": str,
    "generation": _generation,
    "fingerprint": str,
    "rank": _count,
    "alpha": _number,
    "targets": _names,
    "prompt": str,
    "condition_dropout": _numbers,
    "sampling": _numbers,
    "steps": _count,
    "recipe": str,
    "licence": str,
}
