"""Stage 3: where the speaker switches, and the two halves around it.

The switch is a pause. Of several the one nearest to where it belongs by the length of the two lines is taken, and where
something can tell languages apart (the drawn world's recogniser), both halves must be heard to be in theirs. Halves are
as long as the model's grid of 8k + 1 frames allows: the first begins with the clip, the second ends with it.

Legend: S samples, T instants of 10 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from datagen.script import Script
from datagen.store import Rejected
from datagen.tools import RATE, Tools
from justdub.evaluation.metrics.overlap import active
from justdub.tokens import Geometry

_SILENT = 1e-3  # full scale: below -60 dB there is nothing to hear


@dataclass(frozen=True)
class Span:
    """first, count: frames of a half. speech: its first and last instant of speech, seconds of the whole clip."""

    first: int
    count: int
    speech: tuple[float, float]

    def plain(self) -> dict[str, Any]:
        return {"first": self.first, "count": self.count, "speech": [round(at, 3) for at in self.speech]}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Span:
        return cls(facts["first"], facts["count"], tuple(facts["speech"]))


def run(tools: Tools, number: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Find the switch of one clip."""
    script = Script.of(tools.store("script").usable(number))
    film = tools.read(tools.store("generate").path(number, ".mp4"))
    lengths = [len(half.line.text) for half in script.halves]
    spans = halves(
        film.samples, len(film.frames), float(film.rate), tools.geometry,
        share=lengths[0] / sum(lengths), pause=tools.job.split.pause, shortest=tools.job.split.shortest,
    )  # fmt: skip
    facts: dict[str, Any] = {"spans": [span.plain() for span in spans]}
    if tools.job.split.recognise and tools.judge is not None:
        heard = [tools.judge.language(_part(film.samples, span)) for span in spans]
        facts["heard"] = heard
        for half, found, which in zip(script.halves, heard, ("first", "second"), strict=True):
            if found is not None and found != half.line.language:
                raise Rejected(f"the {which} half is heard as {found}, not {half.line.language}")
    return facts, {}


def halves(
    samples_S: np.ndarray, frames: int, rate: float, geometry: Geometry, *, share: float, pause: float, shortest: float
) -> tuple[Span, Span]:
    """The two halves of a clip.

    Args:
        samples_S: mono, 16 kHz. frames, rate: of the picture. share: of the first line in both.
        pause, shortest: seconds; see `SplitSettings`.

    Raises:
        Rejected: silence, no pause, or a half that is too short.
    """
    if np.abs(samples_S).max(initial=0) < _SILENT:
        raise Rejected("the clip is silent")
    speech_T = active(samples_S)
    places = np.flatnonzero(speech_T)
    begin, end = places[0] / 100, (places[-1] + 1) / 100
    gaps = [(left, right) for left, right in pairwise(places) if right - left - 1 >= round(pause * 100)]
    if not gaps:
        raise Rejected(f"no pause of {pause:g} s between two lines")
    wanted = (begin + share * (end - begin)) * 100
    left, right = min(gaps, key=lambda gap: abs((gap[0] + gap[1]) / 2 - wanted))
    cut = round((left + right + 1) / 2 / 100 * rate)
    first, second = _on_grid(cut, geometry), _on_grid(frames - cut, geometry)
    for name, count in (("early", first), ("late", second)):
        if count < shortest * rate:
            raise Rejected(f"the switch is too {name}: at {cut / rate:.2f} s of {frames / rate:.2f} s")
    if (places <= left).sum() < 20 or (places >= right).sum() < 20:
        raise Rejected("a half has less than 0.2 s of speech")
    return (
        Span(0, first, (begin, (left + 1) / 100)),
        Span(frames - second, second, (right / 100, end)),
    )


def _on_grid(frames: int, geometry: Geometry) -> int:
    """The most frames, at most `frames`, of which the model's latents are full; 0 for none."""
    return 1 + (frames - 1) // geometry.frames_per_latent * geometry.frames_per_latent if frames > 0 else 0


def _part(samples_S: np.ndarray, span: Span) -> np.ndarray:
    """The sound of a half's speech, with a little around it."""
    start, end = (round(at * RATE) for at in (span.speech[0] - 0.1, span.speech[1] + 0.1))
    return samples_S[max(0, start) : end]
