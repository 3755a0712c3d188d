"""Everything that is decided about a clip before it is spoken and drawn: who, what, how, where.

All choices come from one generator seeded by (world seed, split, index). Voice, face, phrase, language, style, scene
type and motion are drawn independently of each other, save that one person has one gender and age, and two deliberate
agreements of 70 %: the background's tint with the style, and words of feeling (in 30 % of the phrases) with the style.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from datagen.world import faces, motion, phrases, splits, styles
from datagen.world.sounds import AMBIENCES
from datagen.world.speech import LANGUAGES

_STREAM = 0x57A6E
SCENE_TYPES = {"dialogue": 0.8, "narration": 0.1, "monologue": 0.1}
AGREEMENT = 0.7
FEELING_SHARE = 0.3


@dataclass(frozen=True)
class ClipPlan:
    """One clip, undone.

    Attributes:
        style, intensity: of the delivery (`styles`). scene_type: dialogue (the face speaks), narration (somebody off
            screen speaks, the face keeps silent), monologue (the face's inner voice, lips closed).
        voice, face: numbers (`voices.voice`, `faces.face`); tint_style: whose tint the background has.
        pause: a comma between the halves of the sentence; onset: 0..1, where in the free time speech starts.
        laughs: laughter follows if there is room (dialogue only); ambience: a key of `sounds.AMBIENCES` or "".
        noise: seed of the clip's noises; half: 0, or 1 for the second clip of a pair.
    """

    seed: int
    split: str
    index: int
    half: int
    language: str
    meaning: phrases.Meaning
    text: str
    style: str
    intensity: float
    scene_type: str
    voice: int
    face: int
    tint_style: str
    scene: faces.Scene
    motion: motion.Motion
    pause: bool
    onset: float
    laughs: bool
    ambience: str
    ambience_level: float
    noise: int


def _generator(seed: int, split: str, index: int, half: int) -> np.random.Generator:
    return np.random.default_rng([_STREAM, seed, splits.SPLITS.index(splits.check(split)), index, half])


def draw(seed: int, split: str, index: int, duration: float, *, limit: int | None = None) -> ClipPlan:
    """The plan of a clip; `limit` shortens the vocabulary (`phrases.draw`)."""
    rng = _generator(seed, split, index, 0)
    style, intensity = styles.draw(rng.uniform()), float(rng.choice(styles.INTENSITIES))
    names = list(styles.STYLES)
    feeling = None
    if rng.uniform() < FEELING_SHARE:
        feeling = style.name if rng.uniform() < AGREEMENT else names[int(rng.integers(len(names)))]
    tint_style = style.name if rng.uniform() < AGREEMENT else names[int(rng.integers(len(names)))]
    scene_type = str(rng.choice(list(SCENE_TYPES), p=list(SCENE_TYPES.values())))
    shown = _kind(rng)
    heard = _kind(rng) if scene_type == "narration" else shown
    language = list(LANGUAGES)[int(rng.integers(len(LANGUAGES)))]
    meaning = phrases.draw(rng, split, feeling, limit)
    pause = bool(rng.uniform() < 0.25)
    ambience = list(AMBIENCES)[int(rng.integers(len(AMBIENCES)))] if rng.uniform() < 0.15 else ""
    return ClipPlan(
        seed=seed,
        split=split,
        index=index,
        half=0,
        language=language,
        meaning=meaning,
        text=meaning.text(language, heard.gender, pause=pause),
        style=style.name,
        intensity=intensity,
        scene_type=scene_type,
        voice=splits.draw(split, heard, splits.VOICES, rng.uniform()),
        face=splits.draw(split, shown, splits.FACES, rng.uniform()),
        tint_style=tint_style,
        scene=faces.scene(rng, styles.STYLES[tint_style].tint),
        motion=motion.draw(rng, duration),
        pause=pause,
        onset=float(rng.uniform()),
        laughs=bool(scene_type == "dialogue" and rng.uniform() < 0.06),
        ambience=ambience,
        ambience_level=float(rng.uniform(-24, -12)),
        noise=int(rng.integers(2**31)),
    )


def translate(plan: ClipPlan, gender: str) -> ClipPlan:
    """The other half of a pair: same person, picture and style, the sentence in another language at another onset."""
    rng = _generator(plan.seed, plan.split, plan.index, 1)
    others = [language for language in LANGUAGES if language != plan.language]
    language = others[int(rng.integers(len(others)))]
    pause = bool(rng.uniform() < 0.25)
    text = plan.meaning.text(language, gender, pause=pause)
    return replace(plan, half=1, language=language, text=text, pause=pause, onset=float(rng.uniform()))


def caption_generator(plan: ClipPlan) -> np.random.Generator:
    """The generator of a caption's choices: its own stream, so that captions may change without changing clips."""
    return np.random.default_rng([_STREAM, 7, plan.seed, splits.SPLITS.index(plan.split), plan.index, plan.half])


def _kind(rng: np.random.Generator) -> splits.Kind:
    gender = splits.GENDERS[int(rng.integers(2))]
    return splits.Kind(gender, str(rng.choice(splits.AGES, p=(0.18, 0.27, 0.33, 0.22))))
