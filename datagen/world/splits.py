"""The one rule that keeps base | adapters | library | test apart, for voices, faces and phrases.

A person (voice number or face number) belongs to the split of its last decimal digit; a phrase to the split of its
meaning's checksum modulo 10, so all five translations of a sentence fall together:

    0 1 2 3 4 5 6   base       what the backbone is trained on
    7               adapters   what adapters (dubbing, styles) are trained on
    8               library    footage libraries for retrieval
    9               test       seen by nothing but evaluation

Numbers mean the same person in every world, whatever its seed. The tens of a number fix gender and age, so that every
split holds every kind of person: gender = (n // 10) % 2, age = (n // 20) % 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from datagen.world.speech import hash_text

SPLITS = ("base", "adapters", "library", "test")
GENDERS = ("woman", "man")
AGES = ("child", "young", "adult", "elder")
VOICES = 3200  # voice numbers in use: 2240 base, 320 in each other split
FACES = 16000  # face numbers in use: 11200 base, 1600 in each other split

_DIGITS = {"base": (0, 1, 2, 3, 4, 5, 6), "adapters": (7,), "library": (8,), "test": (9,)}


@dataclass(frozen=True)
class Kind:
    """Gender (`GENDERS`) and age (`AGES`): what a voice and a face must share to be one person."""

    gender: str
    age: str


def check(split: str) -> str:
    """`split` itself, or a ValueError that names the four."""
    if split not in _DIGITS:
        raise ValueError(f"no split {split!r}; splits are {', '.join(SPLITS)}")
    return split


def split_of(number: int) -> str:
    """The split of a voice or a face."""
    return next(name for name, digits in _DIGITS.items() if number % 10 in digits)


def split_of_phrase(meaning: str) -> str:
    """The split of a phrase, from its language-free key (`phrases.Meaning.key`)."""
    return split_of(hash_text(meaning))


def kind_of(number: int) -> Kind:
    """Gender and age of the person with that voice or face number."""
    return Kind(GENDERS[(number // 10) % 2], AGES[(number // 20) % 4])


def draw(split: str, kind: Kind, count: int, u: float) -> int:
    """The number below `count` of that split and kind at the fraction `u` in [0, 1) of all such numbers."""
    digits = _DIGITS[check(split)]
    offset = 10 * GENDERS.index(kind.gender) + 20 * AGES.index(kind.age)
    place = int(u * (count // 80) * len(digits))
    return 80 * (place // len(digits)) + offset + digits[place % len(digits)]
