"""A small grammar over shared meanings: every phrase exists in five languages as a true translation.

A `Meaning` is a sentence pattern with its filled slots, independent of language; `Meaning.text(language, gender)`
says it (the gender of the *speaker* matters in "I am tired"). Its `key` decides the split, so held-out phrases are
new combinations of known words. About 42 000 meanings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from datagen.world import vocabulary as words
from datagen.world.splits import check, split_of_phrase
from datagen.world.styles import STYLES

_FEELING_STYLES = tuple(STYLES)  # the two rows 2 i and 2 i + 1 of FEELINGS belong to style i


@lru_cache(maxsize=32)
def _rows(table: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a vocabulary table: (meanings, 5 languages)."""
    lines = [line for line in getattr(words, table).strip("\n").split("\n")]
    return tuple(tuple(cell.strip() for cell in line.split("|")) for line in lines)


def _noun(cell: str, accusative: bool = False) -> tuple[str, str]:
    """(the noun with its article, its gender m | f | n | p)."""
    match = re.fullmatch(r"(.+?)(?:/(\w))?(?: \{(.+)\})?", cell)
    nominative, gender, object_form = match.groups()
    return (object_form or nominative) if accusative else nominative, gender or "m"


def _agree(cell: str, gender: str) -> str:
    """The form of an adjective for a gender."""
    forms = cell.lstrip("*").split(",")
    return forms[min({"m": 0, "f": 1, "n": 2, "p": 3}[gender], len(forms) - 1)]


# Pattern -> (share, tables of its slots). The share of the two patterns with a feeling is drawn separately.
PATTERNS: dict[str, tuple[float, tuple[str, ...]]] = {
    "someone does something": (0.34, ("PEOPLE", "VERBS_WITH_OBJECT", "THINGS")),
    "I do something": (0.14, ("VERBS_WITH_OBJECT", "THINGS")),
    "someone acts somewhere": (0.14, ("PEOPLE", "VERBS_ALONE", "PLACES")),
    "someone acts sometime": (0.14, ("PEOPLE", "VERBS_ALONE", "TIMES")),
    "something is": (0.12, ("THINGS", "DEGREES", "QUALITIES")),
    "someone is somewhere": (0.06, ("PEOPLE", "PLACES")),
    "where is": (0.03, ("THINGS",)),
    "give me": (0.03, ("THINGS",)),
}
FEELING_PATTERNS: dict[str, tuple[float, tuple[str, ...]]] = {
    "I feel": (0.5, ("DEGREES", "FEELINGS", "TIMES")),
    "someone feels": (0.5, ("PEOPLE", "DEGREES", "FEELINGS")),
}


@dataclass(frozen=True)
class Meaning:
    """A pattern and the row of each of its slots."""

    pattern: str
    slots: tuple[int, ...]

    @property
    def key(self) -> str:
        """The language-free name that decides the split."""
        return f"{self.pattern}: {' '.join(map(str, self.slots))}"

    @property
    def feeling(self) -> str | None:
        """The style whose words it holds, if any."""
        if self.pattern not in FEELING_PATTERNS:
            return None
        return _FEELING_STYLES[self.slots[FEELING_PATTERNS[self.pattern][1].index("FEELINGS")] // 2]

    def text(self, language: str, gender: str = "man", *, pause: bool = False) -> str:
        """The sentence, capitalised and punctuated; `pause` puts a comma between its halves."""
        return _say(self, language, gender == "woman", pause)


def _say(meaning: Meaning, language: str, woman: bool, pause: bool) -> str:
    tables = (PATTERNS.get(meaning.pattern) or FEELING_PATTERNS[meaning.pattern])[1]
    column = words.LANGUAGE_ORDER.index(language)
    cell = {table: _rows(table)[row][column] for table, row in zip(tables, meaning.slots, strict=True)}
    who, gender = _noun(cell["PEOPLE"]) if "PEOPLE" in cell else ("", "f" if woman else "m")
    thing, thing_gender = _noun(cell["THINGS"]) if "THINGS" in cell else ("", "m")
    object_form = _noun(cell["THINGS"], accusative=True)[0] if "THINGS" in cell else ""
    he, _, me = cell.get("VERBS_WITH_OBJECT", ",").partition(",")
    very, end = cell.get("DEGREES", ""), "."
    match meaning.pattern:
        case "someone does something":
            parts = [f"{who} {he}", object_form]
        case "I do something":
            parts = [_elide(f"{_pick('I', 'je', '', 'ich', 'я', column)} {me}"), object_form]
        case "someone acts somewhere":
            parts = [f"{who} {cell['VERBS_ALONE']}", cell["PLACES"]]
        case "someone acts sometime":
            parts = [f"{who} {cell['VERBS_ALONE']}", cell["TIMES"]]
        case "something is":
            state = "está" if cell["QUALITIES"].startswith("*") else "es"
            be = _pick("is", "est", state, "ist", "", column)
            parts = [f"{thing} {be}", f"{very} {_agree(cell['QUALITIES'], thing_gender)}"]
        case "someone is somewhere":
            parts = [f"{who} {_pick('is', 'est', 'está', 'ist', '', column)}", cell["PLACES"]]
        case "where is":
            parts, end = [_pick("where is", "où est", "¿dónde está", "wo ist", "где", column), thing], "?"
        case "give me":
            parts = [_pick("give me", "donne-moi", "dame", "gib mir", "дай мне", column), object_form]
        case "I feel":
            be = _pick("I am", "je suis", "estoy", "ich bin", "я", column)
            parts = [f"{be} {very} {_agree(cell['FEELINGS'], gender)}", cell["TIMES"]]
        case _:
            be = _pick("is", "est", "está", "ist", "", column)
            parts = [f"{who} {be}", f"{very} {_agree(cell['FEELINGS'], gender)}"]
    sentence = " ".join((", " if pause else " ").join(part.strip() for part in parts).split())
    first = 1 if sentence.startswith("¿") else 0
    return sentence[:first] + sentence[first].upper() + sentence[first + 1 :] + end


def _pick(*forms_and_column) -> str:
    return forms_and_column[forms_and_column[-1]]


def _elide(text: str) -> str:
    """French 'je ai' -> 'j'ai'."""
    return re.sub(r"\bje (?=[aeéèioôuh])", "j'", text)


def draw(rng: np.random.Generator, split: str, feeling: str | None = None, limit: int | None = None) -> Meaning:
    """A meaning of a split, with words of a style's feeling or with none.

    Args:
        limit: use only the first so many rows of every table (a smaller vocabulary for small models).
    """
    check(split)
    patterns = PATTERNS if feeling is None else FEELING_PATTERNS
    names, shares = list(patterns), np.array([share for share, _ in patterns.values()])
    while True:
        name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
        slots = []
        for table in patterns[name][1]:
            count = len(_rows(table))
            if table == "FEELINGS":
                slots.append(2 * _FEELING_STYLES.index(feeling) + int(rng.integers(2)))
            elif table == "DEGREES":
                slots.append(int(rng.choice(4, p=(0.55, 0.2, 0.15, 0.1))))
            else:
                slots.append(int(rng.integers(min(count, limit or count))))
        meaning = Meaning(name, tuple(slots))
        if split_of_phrase(meaning.key) == split:
            return meaning


def vocabulary(language: str) -> set[str]:
    """Every word form of a language that some sentence holds, lower case."""
    forms: set[str] = set()
    for name, (_, tables) in (PATTERNS | FEELING_PATTERNS).items():
        for place, table in enumerate(tables):
            for row in range(len(_rows(table))):
                slots = tuple(row if i == place else 0 for i in range(len(tables)))
                for gender in ("man", "woman"):
                    forms |= set(re.findall(r"[\w'’-]+", Meaning(name, slots).text(language, gender).lower()))
    for table in ("QUALITIES", "FEELINGS"):
        for row in _rows(table):
            forms |= set(row[words.LANGUAGE_ORDER.index(language)].lstrip("*").lower().split(","))
    return forms - {""}
