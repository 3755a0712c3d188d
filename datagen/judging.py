"""Who measures pairs: the drawn world's judges, or the metrics of `justdub eval` with the user's weights.

Measures of a pair (target, reference). Of the world's judges:

    target_words, reference_words            share of the line's words that are heard, 0..1
    target_language, reference_language      1 where the language is heard, else 0
    target_offset, reference_offset          frames between lips and sound (absolute)
    target_confidence, reference_confidence  of that offset
    face, voice                              likeness of target and reference, -1..1
    outside                                  mean absolute difference outside of the mask, 0..255
    loudness                                 absolute difference of the levels, dB

With "metrics": the keys of `justdub eval` for reference (source) against target (dub), and `outside` and `loudness`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from datagen.job import FilterSettings
from datagen.prompt import Line
from datagen.tools import RATE, Film
from justdub.errors import MissingError, UsageError

_LEVEL = 1e-5


@dataclass(frozen=True)
class Candidate:
    """A pair that is measured: both films, their lines, and where they may differ (F, H, W)."""

    target: Film
    reference: Film
    target_line: Line
    reference_line: Line
    mask_FHW: np.ndarray


class Judge(Protocol):
    """Measures pairs."""

    measures: tuple[str, ...]

    def language(self, samples_S: np.ndarray) -> str | None:
        """The language of speech at 16 kHz, None where nobody can tell."""

    def measure(self, pair: Candidate) -> dict[str, float]:
        """What can be measured of `measures`."""


def open_judge(settings: FilterSettings) -> Judge | None:
    """The judge that a job names.

    Raises:
        MissingError, BadInputError: its weights are not there or cannot be read.
        UsageError: a limit on something that it does not measure.
    """
    if settings.judge == "none":
        judge: Judge | None = None
    else:
        judge = WorldJudge() if settings.judge == "world" else MetricsJudge(settings)
    known = judge.measures if judge else ()
    if unknown := [name for name in settings.limits if name not in known]:
        raise UsageError(
            f"filter.limits.{unknown[0]}: judge {settings.judge!r} does not measure it",
            expected=", ".join(known) or "none",
        )
    return judge


class WorldJudge:
    """The trained judges of the drawn world."""

    measures = (
        "target_words", "reference_words", "target_language", "reference_language", "target_offset", "reference_offset",
        "target_confidence", "reference_confidence", "face", "voice", "outside", "loudness",
    )  # fmt: skip

    def __init__(self) -> None:
        from justdub.evaluation.world import judges

        self._judges = judges.load()

    def language(self, samples_S: np.ndarray) -> str | None:
        return self._judges.words.hear(samples_S).language if len(samples_S) > RATE // 4 else None

    def measure(self, pair: Candidate) -> dict[str, float]:
        from justdub.evaluation.world.table import Clip, judge

        found: dict[str, float] = {}
        for name, film, line in (
            ("target", pair.target, pair.target_line), ("reference", pair.reference, pair.reference_line),
        ):  # fmt: skip
            one = judge(self._judges, Clip(film.frames, film.samples, line.text, line.language))
            found |= {
                f"{name}_words": one.word_accuracy, f"{name}_language": float(one.language_right),
                f"{name}_offset": float(abs(one.offset)), f"{name}_confidence": one.confidence,
            }  # fmt: skip
        faces = [self._judges.face.embed(film.frames) for film in (pair.target, pair.reference)]
        voices = [self._judges.voice.embed(film.samples) for film in (pair.target, pair.reference)]
        found |= {"face": float(faces[0] @ faces[1]), "voice": float(voices[0] @ voices[1])}
        return found | plain_measures(pair)


class MetricsJudge:
    """Metrics of `justdub eval`, those that have limits."""

    def __init__(self, settings: FilterSettings) -> None:
        from justdub.evaluation import registry
        from justdub.evaluation.metric import Metric
        from justdub.evaluation.tools import Tools, Weights

        known = Weights.__dataclass_fields__
        for name, path in settings.weights.items():
            if name not in known:
                raise UsageError(f"filter.weights.{name}", expected=", ".join(known))
            if not Path(path).expanduser().exists():
                raise MissingError(f"no {name} weights at {path}", expected="a file or folder", remedy="filter.weights")
        self._tools = Tools(Weights(**settings.weights))
        self.measures = ("outside", "loudness", *(m.key for m in registry.every() if isinstance(m, Metric)))
        wanted = tuple(key for key in settings.limits if key not in ("outside", "loudness"))
        self._metrics = registry.chosen(wanted) if wanted and set(wanted) <= set(self.measures) else ()

    def language(self, samples_S: np.ndarray) -> str | None:
        return None

    def measure(self, pair: Candidate) -> dict[str, float]:
        from datagen.film import encode, put
        from justdub.evaluation.cache import Cache
        from justdub.evaluation.sample import Clip, Sample

        found = plain_measures(pair)
        with tempfile.TemporaryDirectory(prefix="justdub-") as folder:
            paths = {name: Path(folder) / f"{name}.mp4" for name in ("target", "reference", "mask")}
            for name, film in (("target", pair.target), ("reference", pair.reference)):
                put(paths[name], encode(film.frames, film.samples, frame_rate=film.rate))
            white = np.repeat(pair.mask_FHW[..., None], 3, axis=-1).astype(np.uint8) * 255
            put(paths["mask"], encode(white, None, frame_rate=pair.target.rate))
            cache = Cache(None)
            sample = Sample(
                "pair", Clip(paths["reference"], cache), Clip(paths["target"], cache), self._tools,
                text=pair.target_line.text, language=pair.target_line.language, masks=paths["mask"],
            )  # fmt: skip
            for metric in self._metrics:
                value = metric.measure(sample)
                if isinstance(value, float):
                    found[metric.key] = value
        return found


def plain_measures(pair: Candidate) -> dict[str, float]:
    """What needs no model."""
    outside_FHW = ~pair.mask_FHW
    one, other = pair.target.frames[outside_FHW].astype(np.int16), pair.reference.frames[outside_FHW]
    levels = [
        20 * np.log10(max(float(np.sqrt(np.mean(film.samples**2))), _LEVEL)) for film in (pair.target, pair.reference)
    ]
    outside = float(np.abs(one - other).mean()) if outside_FHW.any() else 0.0
    return {"outside": outside, "loudness": abs(levels[0] - levels[1])}
