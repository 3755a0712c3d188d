"""Stage 1: who says what in which two languages.

Scripts are a function of the job and their number. Every ordered pair of languages gets equally many; no two say the
same in the same languages.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from datagen import people
from datagen.job import DatagenJob
from datagen.lines import Lines, open_lines
from datagen.prompt import Line, spoken, switching
from justdub.dubbing.prompt import Timeline
from justdub.errors import BadInputError

_STREAM = 0x5C21B7
_DRAWS = 200  # until a script that is new must be found


@dataclass(frozen=True)
class Half:
    """line: what is said. other: the same in the other half's language."""

    line: Line
    other: Line


@dataclass(frozen=True)
class Script:
    """A clip to be made.

    Attributes:
        speaker: as prompts name the person. after: the prompt's last sentence. halves: two with a switch between them;
            one for a clip that only has to be said in another language.
        person: of the drawn world: number of the plan whose face and voice it is.
    """

    number: int
    speaker: str
    after: str
    halves: tuple[Half, ...]
    person: int = 0

    def prompt(self, other: int | None = None, *, manner: str = "", switch: float | None = None) -> str | Timeline:
        """Of the whole clip; `other`: with that half in the other half's language; manner: of that half's speech.

        Args:
            switch: seconds at which the second half begins: a prompt for each half. None: one prompt for both.
        """
        lines = [half.other if place == other else half.line for place, half in enumerate(self.halves)]
        if len(lines) == 1:
            return spoken(self.speaker, lines[0], manner=manner, after=self.after)
        if switch is not None:
            manners = [manner if other in (None, place) else "" for place in range(2)]
            told = [
                spoken(self.speaker, line, manner=how, after=self.after)
                for line, how in zip(lines, manners, strict=True)
            ]
            return Timeline(tuple(told), (switch,))
        return switching(self.speaker, lines[0], lines[1], manner=manner, after=self.after)

    def half_prompt(self, place: int) -> str:
        """Of one half alone, as it is: the caption of a training pair."""
        return spoken(self.speaker, self.halves[place].line, after=self.after)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        halves = [{"line": list(half.line), "other": list(half.other)} for half in self.halves]
        return {"speaker": self.speaker, "after": self.after, "halves": halves, "person": self.person}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Script:
        """From the facts of the stage's store."""
        halves = tuple(Half(Line(*half["line"]), Line(*half["other"])) for half in facts["halves"])
        return cls(facts["number"], facts["speaker"], facts["after"], halves, facts["person"])


def write(job: DatagenJob) -> Iterator[Script]:
    """All scripts of a job, in order.

    Raises:
        BadInputError: the lines are too few for so many different scripts.
    """
    lines = open_lines(job.script.lines, job.script.languages, job.script.split)
    ways = list(permutations(job.script.languages, 2))
    seen: set[tuple] = set()
    for number in range(job.clips):
        turn = np.random.default_rng([_STREAM, job.seed, number // len(ways)]).permutation(len(ways))
        way = ways[turn[number % len(ways)]]
        for draw in range(_DRAWS):
            script = _draw(job, lines, number, way, np.random.default_rng([_STREAM, job.seed, number, draw]))
            said = tuple(half.line for half in script.halves)
            if said not in seen and said[0] != script.halves[1].other:
                break
        else:
            raise BadInputError(
                f"{number} different scripts could be made of {job.script.lines}, {job.clips} are wanted",
                remedy="more lines, or fewer clips",
            )
        seen.add(said)
        yield script


def _draw(job: DatagenJob, lines: Lines, number: int, way: tuple[str, str], rng: np.random.Generator) -> Script:
    one, other = way
    if job.script.people == "world":
        speaker, gender, person = _drawn_person(rng, job.script.split)
        after = ""
    else:
        speaker, after, person = people.person(rng), people.setting(rng), 0
        gender = "woman" if any(word in speaker for word in (" woman", " girl")) else "man"
    first, first_other = lines.draw(rng, one, other, gender)
    second, second_other = lines.draw(rng, other, one, gender)
    return Script(number, speaker, after, (Half(first, first_other), Half(second, second_other)), person)


def _drawn_person(rng: np.random.Generator, split: str) -> tuple[str, str, int]:
    """Somebody of the drawn world as its captions say it; whether the person is a woman or a man; and their plan."""
    from datagen.world import captions, faces
    from datagen.world.clip import World
    from datagen.world.voices import voice

    number = int(rng.integers(1_000_000))
    plan = World().plan(number, split)
    while plan.scene_type != "dialogue":
        number += 1
        plan = World().plan(number, split)
    face = faces.face(plan.face)
    described = captions.looks(face, plan.scene, rng) if rng.uniform() < 0.5 else ""
    who = captions.noun(face.kind, bool(described) or rng.uniform() < 0.5)
    return f"The {who}{described}", voice(plan.voice).kind.gender, number
