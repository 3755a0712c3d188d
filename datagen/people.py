"""Speakers and places for prompts of footage, and how they are combined: short word lists, every choice seeded."""

from __future__ import annotations

import numpy as np

_WHO = (
    "woman", "man", "young woman", "young man", "elderly woman", "elderly man", "middle-aged woman", "middle-aged man",
    "girl of fifteen", "boy of fifteen", "bearded man", "woman with glasses", "man with glasses",
)  # fmt: skip
_LOOKS = (
    "with short dark hair", "with long dark hair", "with red hair", "with grey hair", "with curly hair",
    "with a shaved head",
    "with blond hair", "wearing a headscarf", "with braids", "with hair tied back",
)  # fmt: skip
_WEARS = (
    "in a white shirt", "in a dark suit", "in a woollen sweater", "in a denim jacket", "in a summer dress",
    "in work clothes",
    "in a raincoat", "in a doctor's coat", "in a sports jersey",
)  # fmt: skip
_WHERE = (
    "in a kitchen", "in a quiet office", "in a library", "on a busy street", "in a park", "in a train", "in a workshop",
    "on a stage", "in a classroom", "at a market", "by the sea", "in a parked car", "in a snowy garden",
    "in a recording studio",
)  # fmt: skip
_SHOT = (
    "Medium close-up, facing the camera.", "Close-up, head slightly turned.", "Medium shot, hand-held camera.",
    "Close-up, three-quarter view.", "Medium shot, evening light.", "Close-up, soft window light.",
)  # fmt: skip
_HEARD = (
    "",
    "",
    "A quiet room.",
    "Street noise in the background.",
    "Soft rain in the background.",
    "People murmur nearby.",
)


def person(rng: np.random.Generator) -> str:
    """For instance "The elderly man with grey hair, in a raincoat, by the sea,"."""
    who, looks, wears, where = (str(rng.choice(words)) for words in (_WHO, _LOOKS, _WEARS, _WHERE))
    return f"The {who} {looks}, {wears}, {where},"


def setting(rng: np.random.Generator) -> str:
    """The last sentences of a prompt: the shot and what is heard beside the voice."""
    return " ".join(part for part in (str(rng.choice(_SHOT)), str(rng.choice(_HEARD))) if part)
