"""Drawn clips in which one speaker says two lines, most often in two languages, with a pause between them.

What a backbone must know to make training pairs by itself: that a voice and a face stay the same when the language
changes, and what over-articulated lips look like.

Legend: F frames, S samples, C mouth channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from datagen.prompt import Line, spoken, switching
from datagen.world import captions, faces, motion, phrases, styles, visemes
from datagen.world import plan as plans
from datagen.world.clip import Take, World
from datagen.world.plan import ClipPlan
from datagen.world.render import Drawing
from datagen.world.speech import LANGUAGES, Phoneme
from datagen.world.voices import voice

MANNER = "over-articulating every syllable with a wide open mouth"
_JAW = 1.6  # how much wider an over-articulating mouth opens
_STREAM = 0x5A17C4
_SAME, _OVER, _STYLED, _LOOKS = 0.4, 0.12, 0.5, 0.5  # shares of the clips


@dataclass(frozen=True)
class Dialogue:
    """Two lines by one person. speaker, manner: as prompts say them; over: over-articulated."""

    person: ClipPlan
    speaker: str
    lines: tuple[Line, Line]
    manner: str
    over: bool

    @property
    def caption(self) -> str:
        """One prompt that says both lines."""
        return switching(self.speaker, *self.lines, manner=self.manner)

    @property
    def prompts(self) -> tuple[str, str]:
        """A prompt for each half."""
        one, other = (spoken(self.speaker, line, manner=self.manner) for line in self.lines)
        return one, other


def draw(world: World, index: int, split: str = "base") -> Take:
    """Clip `index`: a person of the split who says two lines of it; for the same arguments always the same one."""
    said = choose(world, index, split)
    return replace(perform(world, said.person, said.lines, over=said.over), caption=said.caption)


def choose(world: World, index: int, split: str = "base") -> Dialogue:
    """Who says what in clip `index`."""
    rng = np.random.default_rng([_STREAM, world.seed, index])
    person = _dialogue(world, int(rng.integers(1_000_000)), split)
    gender = voice(person.voice).kind.gender
    one = str(rng.choice(list(LANGUAGES)))
    others = [language for language in LANGUAGES if language != one]
    other = one if rng.uniform() < _SAME else str(rng.choice(others))
    lines = tuple(Line(code, phrases.draw(rng, split).text(code, gender)) for code in (one, other))
    over, style = bool(rng.uniform() < _OVER), styles.STYLES[person.style]
    manner = MANNER if over else style.words[person.intensity > 0.75] if rng.uniform() < _STYLED else ""
    face = faces.face(person.face)
    described = captions.looks(face, person.scene, rng) if rng.uniform() < _LOOKS else ""
    speaker = f"The {captions.noun(face.kind, bool(described) or rng.uniform() < 0.5)}{described}"
    return Dialogue(person, speaker, lines, manner, over)


def perform(world: World, person: ClipPlan, lines: tuple[Line, Line], *, over: bool = False) -> Take:
    """Two lines by the person of a plan, one in each half of the world's frames; over: over-articulated."""
    count = (world.frames + 1) // 2
    samples, phonemes, at = [], [], 0.0
    for frames, line in zip((count, world.frames - count), lines, strict=True):
        half = World(world.seed, world.size, world.frame_rate, frames)
        spoken = replace(person, language=line.language, text=line.text, pause=False, laughs=False, ambience="")
        sound, said, _ = half._sound(spoken)
        samples.append(sound)
        phonemes += [Phoneme(p.start + at, p.end + at, p.ipa) for p in said]
        at += half.duration
    mouth_FC = visemes.mouth_track(phonemes, world.times_F)
    style = styles.STYLES[person.style]
    mouth_FC[:, 0] = np.clip(mouth_FC[:, 0] * (1 + style.at("jaw", person.intensity)) * (_JAW if over else 1), 0, 1.1)
    effects = {name: style.at(name, person.intensity) for name in ("inner", "outer", "corner", "lid")}
    track = motion.sample(person.motion, world.times_F, bob=1 + style.at("bob", person.intensity))
    drawing = Drawing(faces.face(person.face), person.scene, track, mouth_FC, **effects)
    said = replace(person, language=lines[0].language, text=lines[0].text, laughs=False, ambience="")
    sound_S = np.concatenate(samples)[: world.length]
    sound_S = np.pad(sound_S, (0, world.length - len(sound_S)))
    return Take(said, sound_S, tuple(phonemes), (), switching("The person", *lines), drawing, drawing.mouth())


def _dialogue(world: World, number: int, split: str) -> ClipPlan:
    """The first plan from `number` on in which a face speaks."""
    while (found := plans.draw(world.seed, split, number, world.duration)).scene_type != "dialogue":
        number += 1
    return found
