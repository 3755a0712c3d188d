"""Scores of one dub, and what many of them amount to: a figure with its 95 % interval for every column.

Legend: F frames, H/W height/width, S samples, N clips, K voices, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from justdub.evaluation.world import scores
from justdub.evaluation.world.heldout import Task
from justdub.evaluation.world.judges import Judges
from justdub.evaluation.world.table import COLUMNS as CLIP_COLUMNS
from justdub.evaluation.world.table import Scores, judge
from justdub.evaluation.world.words import words_of

VOICES = 15  # other voices beside the source's
_DRAWS = 2000  # resamples of the clips

# Column: its title, and whether it is a share in percent.
COLUMNS = {
    "clips": ("clips", False),
    "word_accuracy": ("new words right", True),
    "leaked": ("old words leaked", True),
    "language_right": ("language right", True),
    "outside": ("error outside the mouth", False),
    "background": ("background error", False),
    "face": ("face likeness", False),
    "voice": ("voice likeness", False),
    "voice_found": ("voice retrieved", True),
    **{name: CLIP_COLUMNS[name] for name in ("lips_sound", "lips_articulation", "sync_within_1", "offset")},
}
LEGEND = f"""\
Errors: mean absolute difference from the source, 0..255, over pixels outside of the boxes around the lips of source and
target, grown by 4 pixels, and over pixels that show neither head nor body in either. Old words: share of the source
line's words, without those that the new line has too, that are heard. Voice likeness: cosine of the judge's vectors of
dub and source; voice retrieved: share of clips whose voice is nearer to the source's than to those of {VOICES} other
speakers. Rows: truth, the target as drawn; coded, the target through codecs and vocoder; copy, the source itself; base,
without adapter; shuffled, true targets with each other's sound.
"""


@dataclass(frozen=True)
class DubScores:
    """heard: of sound and lips (`table.Scores`). leaked: 0..1. outside, background: 0..255. voice_found: whether the
    source's voice is the nearest. None where it does not apply."""

    heard: Scores
    leaked: float | None
    outside: float | None
    background: float | None
    voice_found: bool

    def of(self, column: str) -> float:
        """The value that a column is made of; NaN where it does not apply."""
        offset = self.heard.offset
        own = {"clips": 1.0, "sync_within_1": float(abs(offset) <= 1), "offset": float(abs(offset))}
        value = own[column] if column in own else getattr(self, column, None)
        if value is None:
            value = getattr(self.heard, column, None)
        return float("nan") if value is None else float(value)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        values = {name: self.of(name) for name in COLUMNS if name not in ("clips", "offset")}
        kept = {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}
        return {"said": " ".join(self.heard.said)} | kept | {"offset": self.heard.offset}


class Voices:
    """The other speakers: for each task `VOICES` of a pool, always the same ones."""

    def __init__(self, judges: Judges, sounds: Sequence[tuple[int, np.ndarray]]) -> None:
        self.embedded_KE = np.stack([judges.voice.embed(samples) for _, samples in sounds])

    def beside(self, task: Task) -> np.ndarray:
        """(K, E) embeddings."""
        chosen = np.random.default_rng([0x701CE5, task.number]).permutation(len(self.embedded_KE))[:VOICES]
        return self.embedded_KE[chosen]


def judge_dub(
    judges: Judges, voices: Voices, task: Task, frames_FHW3: np.ndarray, samples_S: np.ndarray, *, picture: bool = True
) -> DubScores:
    """All scores of a dub.

    Args:
        frames_FHW3: uint8 at the source's size and length. samples_S: float32 at 16 kHz.
        picture: False leaves the scores out that ask how alike two pictures are.
    """
    source, new = task.source, task.target
    face = source.frames if picture else None
    made = new._replace(frames=frames_FHW3, samples=samples_S, face_reference=face, voice_reference=source.samples)
    heard = judge(judges, made)
    voice_E, source_E = judges.voice.embed(samples_S), judges.voice.embed(source.samples)
    return DubScores(
        heard=heard,
        leaked=scores.leaked(heard.said, words_of(source.text), words_of(new.text)),
        outside=scores.picture_error(frames_FHW3, source.frames, task.elsewhere_FHW) if picture else None,
        background=scores.picture_error(frames_FHW3, source.frames, task.backdrop_FHW) if picture else None,
        voice_found=scores.is_nearest(voice_E, source_E, voices.beside(task)),
    )


@dataclass(frozen=True)
class Figure:
    """value: mean, or median for the offset; low, high: ends of its 95 % interval over clips (percentile bootstrap;
    NaN for fewer than two clips); count: clips that have it."""

    value: float
    low: float
    high: float
    count: int

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if np.isnan(x) else round(x, 5) for name, x in numbers.items()} | {"count": self.count}


def figure(row: Sequence[DubScores | None], column: str) -> Figure:
    """A column of a row."""
    return _figure(_values(row, column)[None], column)


def difference(row: Sequence[DubScores | None], base: Sequence[DubScores | None], column: str) -> Figure:
    """`row` minus `base` on the clips that have both, resampled together."""
    return _figure(np.stack((_values(row, column), _values(base, column))), column)


def _values(row: Sequence[DubScores | None], column: str) -> np.ndarray:
    return np.array([np.nan if one is None else one.of(column) for one in row])


def _figure(values_RN: np.ndarray, column: str) -> Figure:
    """Of one row, or of the first minus the second one."""
    values_RN = values_RN[:, np.isfinite(values_RN).all(0)]
    count = values_RN.shape[1]
    if column == "clips":
        return Figure(float(count), float("nan"), float("nan"), count)
    if not count:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    middle = np.median if column == "offset" else np.mean

    def statistic(resampled_RXN: np.ndarray) -> np.ndarray:
        found_RX = middle(resampled_RXN, axis=-1)
        return found_RX[0] - found_RX[1] if len(found_RX) > 1 else found_RX[0]

    value = float(statistic(values_RN[:, None])[0])
    if count < 2:
        return Figure(value, float("nan"), float("nan"), count)
    places_XN = np.random.default_rng(0).integers(count, size=(_DRAWS, count))
    low, high = np.percentile(statistic(values_RN[:, places_XN]), (2.5, 97.5))
    return Figure(value, float(low), float(high), count)
