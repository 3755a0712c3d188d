"""One table: generated clips beside true ones and beside true ones with each other's sound.

    clips = [Clip(frames, samples, text, language), ...]
    rows = table(load(), generated=clips, truth=true_clips)
    print(markdown(rows))

The row "shuffled" is the level of chance: the picture, text and references of each true clip with the sound of the
next one of another text.

Legend: F frames, S samples, H/W height/width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from justdub.evaluation.world import scores
from justdub.evaluation.world.judges import Judges
from justdub.evaluation.world.sound import envelope
from justdub.evaluation.world.words import words_of


class Clip(NamedTuple):
    """What was made and what it should say. Plain tuples of the first four do as well.

    Attributes:
        frames: uint8 (F, H, W, 3), 25 frames/s. samples: float32 (S,), 16 kHz, full scale 1. text: the line.
        language: en | fr | es | de | ru.
        voice_reference: another sound of the voice that should be heard, as `samples`; face_reference: other frames
        of the face that should be seen. Without them the two likenesses are left out.
    """

    frames: np.ndarray
    samples: np.ndarray
    text: str
    language: str
    voice_reference: np.ndarray | None = None
    face_reference: np.ndarray | None = None


@dataclass(frozen=True)
class Scores:
    """Of one clip.

    Attributes:
        said: words heard. word_accuracy: 0..1. language_right. lips_sound, lips_articulation: correlations within
            speech.
        offset: frames by which the sound is late; confidence: of that. voice, face: likeness with the references,
            -1..1, or None.
    """

    said: tuple[str, ...]
    word_accuracy: float
    language_right: bool
    lips_sound: float
    lips_articulation: float
    offset: int
    confidence: float
    voice: float | None
    face: float | None


# Column: its title, and whether it is a share in percent.
COLUMNS = {
    "clips": ("clips", False),
    "word_accuracy": ("word accuracy", True),
    "language_right": ("language right", True),
    "lips_sound": ("lips / sound level", False),
    "lips_articulation": ("lips / articulation", False),
    "sync_within_1": ("sync within 1 frame", True),
    "offset": ("median abs. offset", False),
    "confidence": ("sync confidence", False),
    "voice": ("voice likeness", False),
    "face": ("face likeness", False),
}


def judge(judges: Judges, clip: Clip) -> Scores:
    """All scores of one clip."""
    clip = Clip(*clip)
    heard = judges.words.hear(clip.samples)
    lips_F4 = judges.lips.read(clip.frames)
    expected_F2 = judges.articulation.expect(clip.samples, len(clip.frames))
    level_F = envelope(clip.samples, len(clip.frames))
    sync = judges.sync.judge(clip.frames, clip.samples, lips_F4[:, 2:])
    voice = face = None
    if clip.voice_reference is not None:
        voice = float(judges.voice.embed(clip.samples) @ judges.voice.embed(clip.voice_reference))
    if clip.face_reference is not None:
        face = float(judges.face.embed(clip.frames) @ judges.face.embed(clip.face_reference))
    return Scores(
        said=heard.words,
        word_accuracy=scores.word_accuracy(heard.words, words_of(clip.text)),
        language_right=heard.language == clip.language,
        lips_sound=scores.lips_and_sound(lips_F4[:, 0], level_F),
        lips_articulation=scores.lips_and_articulation(lips_F4[:, 0], expected_F2[:, 0], level_F),
        offset=sync.offset,
        confidence=sync.confidence,
        voice=voice,
        face=face,
    )


def summary(found: Sequence[Scores]) -> dict[str, float]:
    """One row: means over clips, shares 0..1, the median of the offset's size; NaN where nothing applies."""

    def mean(values: list) -> float:
        return float(np.mean(values)) if values else float("nan")

    offsets = [abs(one.offset) for one in found]
    row = {name: mean([getattr(one, name) for one in found]) for name in (
        "word_accuracy", "language_right", "lips_sound", "lips_articulation", "confidence"
    )}  # fmt: skip
    row |= {
        "clips": float(len(found)),
        "sync_within_1": mean([offset <= 1 for offset in offsets]),
        "offset": float(np.median(offsets)) if offsets else float("nan"),
        "voice": mean([one.voice for one in found if one.voice is not None]),
        "face": mean([one.face for one in found if one.face is not None]),
    }
    return {name: row[name] for name in COLUMNS}


def shuffled(clips: Iterable[Clip]) -> list[Clip]:
    """Each clip with the sound of the next one that says something else; clips without such another are left out."""
    clips = [Clip(*clip) for clip in clips]
    found = []
    for place, clip in enumerate(clips):
        others = (clips[(place + step) % len(clips)] for step in range(1, len(clips)))
        other = next((other for other in others if other.text != clip.text), None)
        if other is not None:
            found.append(clip._replace(samples=other.samples))
    return found


def table(judges: Judges, generated: Iterable[Clip], truth: Iterable[Clip]) -> dict[str, dict[str, float]]:
    """Rows generated, truth and shuffled; their columns are `COLUMNS`."""
    truth = [Clip(*clip) for clip in truth]
    rows = {"generated": generated, "truth": truth, "shuffled": shuffled(truth)}
    return {name: summary([judge(judges, clip) for clip in clips]) for name, clips in rows.items()}


def markdown(rows: dict[str, dict[str, float]], columns: Mapping[str, tuple[str, bool]] = COLUMNS) -> str:
    """The table as text; `columns` as `COLUMNS`."""
    lines = ["| | " + " | ".join(title for title, _ in columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [_cell(name, row[name], share) for name, (_, share) in columns.items()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(name: str, value: float, share: bool) -> str:
    if np.isnan(value):
        return ""
    if share:
        return f"{100 * value:.1f} %"
    return f"{value:.0f}" if name in ("clips", "offset") else f"{value:.2f}"
