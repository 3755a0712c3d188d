"""The switch: a pause where it belongs; halves on the model's grid; reasons for what cannot be split."""

from __future__ import annotations

import numpy as np
import pytest

from datagen.split import Span, halves
from datagen.store import Rejected
from justdub.tokens import Geometry

GEOMETRY = Geometry(frames_per_latent=4)
RATE = 25.0


def voice(*spans: tuple[float, float], seconds: float = 4.0) -> np.ndarray:
    """A buzz in some spans of near silence."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(round(seconds * 16000)).astype(np.float32) * 1e-3
    for start, end in spans:
        samples[round(start * 16000) : round(end * 16000)] += 0.2 * rng.standard_normal(
            round(end * 16000) - round(start * 16000)
        ).astype(np.float32)
    return samples


def cut(samples: np.ndarray, frames: int = 100, share: float = 0.5, pause: float = 0.1, shortest: float = 1.0):
    return halves(samples, frames, RATE, GEOMETRY, share=share, pause=pause, shortest=shortest)


def test_the_switch_is_the_pause_nearest_to_where_it_belongs() -> None:
    first, second = cut(voice((0.2, 0.9), (1.1, 1.7), (2.1, 3.6)))
    assert first.first == 0 and second.first + second.count == 100
    assert all((span.count - 1) % 4 == 0 for span in (first, second))
    assert first.count / RATE == pytest.approx(1.9, abs=0.17) and second.count / RATE == pytest.approx(2.1, abs=0.17)
    assert first.speech == (pytest.approx(0.2, abs=0.05), pytest.approx(1.7, abs=0.05))
    assert second.speech == (pytest.approx(2.1, abs=0.05), pytest.approx(3.6, abs=0.05))
    early, _ = cut(voice((0.2, 0.9), (1.3, 1.9), (2.1, 3.6)), share=0.25)
    assert early.count / RATE == pytest.approx(1.1, abs=0.17)
    assert Span.of(first.plain()).count == first.count


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(64000, np.float32), "silent"),
        (voice((0.2, 3.8)), "no pause of 0.1 s"),
        (voice((0.1, 0.5), (0.8, 3.8)), "the switch is too early"),
        (voice((0.1, 3.2), (3.5, 3.9)), "the switch is too late"),
        (voice((0.5, 0.56), (1.6, 3.5)), "less than 0.2 s of speech"),
    ],
)
def test_what_cannot_be_split_says_why(samples: np.ndarray, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        cut(samples)
