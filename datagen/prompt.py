"""The prompt of a clip in which a speaker goes on in another language.

    The woman is speaking English, saying: "Yes." Then the same person is speaking French, saying: "Où est le pain ?"

The first sentence is the standard prompt (`justdub.dubbing.prompt`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, NamedTuple

from justdub.dubbing.prompt import LANGUAGES, Timeline, standard_prompt


class Line(NamedTuple):
    """What is said, and its language (a code of `justdub.dubbing.prompt.LANGUAGES`)."""

    language: str
    text: str


def told(prompt: str | Timeline) -> str | dict[str, Any]:
    """For JSON."""
    return asdict(prompt) if isinstance(prompt, Timeline) else prompt


def switching(speaker: str, first: Line, second: Line, *, manner: str = "", after: str = "") -> str:
    """The prompt of both lines, one after the other.

    Args:
        speaker: as in the standard prompt. manner: of both, such as "in a loud voice". after: a last sentence.
    """
    begins = spoken(speaker, first, manner=manner)
    return begins + " Then " + spoken("the same person", second, manner=manner) + (f" {after}" if after else "")


def spoken(speaker: str, line: Line, *, manner: str = "", after: str = "") -> str:
    """The standard prompt, with a manner and a last sentence."""
    prompt = standard_prompt(line.text, line.language, speaker).text
    if manner:
        name = LANGUAGES[line.language]
        prompt = prompt.replace(f" speaking {name}, ", f" speaking {name} {manner}, ", 1)
    return prompt + (f" {after}" if after else "")
