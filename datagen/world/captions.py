"""The prompt of a clip, in the standard form `The woman is speaking French, saying: "..."`, true of what is drawn and
heard.

A third of the captions are that bare form; the others add, each at random, the speaker's looks, the scene and the
ambience; style words stand in half of all captions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datagen.world.faces import Face, Scene
from datagen.world.sounds import AMBIENCES
from datagen.world.speech import LANGUAGES
from datagen.world.splits import Kind
from datagen.world.styles import STYLES

if TYPE_CHECKING:
    from datagen.world.plan import ClipPlan

_HAIR = {"short": "short", "parted": "short", "curly": "curly", "bob": "chin-length", "long": "long"}


def noun(kind: Kind, aged: bool) -> str:
    """'woman', or with its age: 'young woman', 'elderly man'; children are 'girl' and 'boy' either way."""
    if kind.age == "child":
        return "girl" if kind.gender == "woman" else "boy"
    age = {"young": "young ", "adult": "", "elder": "elderly "}[kind.age] if aged else ""
    return age + kind.gender


def article(word: str) -> str:
    """'A' or 'An'."""
    return "An" if word[0] in "aeiou" else "A"


def looks(face: Face, scene: Scene, rng: np.random.Generator) -> str:
    """' with long red hair and glasses, in a blue shirt': one to three facts that the picture shows."""
    facts = []
    if face.hat == "none":
        facts.append("a bald head" if face.cut == "bald" else f"{_HAIR[face.cut]} {face.hair_word} hair")
    else:
        facts.append(f"a {face.hat}")
    if face.glasses:
        facts.append("glasses")
    if face.beard not in ("none", "stubble"):
        facts.append(f"a {face.beard}")
    if face.earrings:
        facts.append("earrings")
    keep = [fact for fact in facts if rng.uniform() < 0.75] or facts[:1]
    text = " with " + (", ".join(keep[:-1]) + " and " + keep[-1] if len(keep) > 1 else keep[0])
    return text + (
        f", in {'an' if scene.clothes_word == 'orange' else 'a'} {scene.clothes_word} shirt,"
        if rng.uniform() < 0.4
        else ""
    )


def caption(plan: ClipPlan, face: Face, voice_kind: Kind, laughs: bool, rng: np.random.Generator) -> str:
    """The caption of one clip; `rng` chooses what is mentioned, never what is said."""
    language, style = LANGUAGES[plan.language], STYLES[plan.style]
    manner = f" {style.words[plan.intensity > 0.75]}" if rng.uniform() < 0.5 else ""
    described, aged = rng.uniform() < 0.5, rng.uniform() < 0.5
    after = f" {AMBIENCES[plan.ambience]}" if plan.ambience and rng.uniform() < 0.7 else ""
    if laughs:
        after = " Then laughter." + after
    if plan.scene_type == "narration":
        who = noun(voice_kind, aged)
        shown = noun(face.kind, aged)
        seen = (
            f" {article(shown)} {shown}{looks(face, plan.scene, rng)}".rstrip(",") + " keeps silent."
            if described
            else ""
        )
        return f'{article(who)} {who} off screen is narrating in {language}{manner}, saying: "{plan.text}"{seen}{after}'
    who = noun(face.kind, aged or described) + (looks(face, plan.scene, rng) if described else "")
    if plan.scene_type == "monologue":
        return f'The {who} is thinking in {language}{manner}, lips closed, an inner voice saying: "{plan.text}"{after}'
    return f'The {who} is speaking {language}{manner}, saying: "{plan.text}"{after}'
