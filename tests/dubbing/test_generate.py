"""A clip from a prompt alone, and the notice about footage that the model does not know."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest

from justdub.backbone import checkpoint, untrained
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.prompt import Timeline
from justdub.errors import UsageError

CARD = checkpoint.Card(name="random", size=(64, 64), steps=2, guidance=2.0, audio_guidance=2.0, stg_blocks=(1,))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> DubPipeline:
    folder = tmp_path_factory.mktemp("backbone")
    untrained.write(folder, CARD, size=untrained.Size(layers=2, registers=None))
    return DubPipeline.from_pretrained(folder, device="cpu", dtype="float32")


def test_a_prompt_becomes_a_clip_of_the_length_asked(pipe: DubPipeline) -> None:
    made = pipe.generate('The man is speaking English, saying: "Yes."', frames=20, seed=3)
    assert made.frames_FHW3.shape == (20, 64, 64, 3) and made.frames_FHW3.dtype == np.uint8
    assert made.audio_CS.shape == (2, round(20 / 25 * made.audio_rate))
    again = pipe.generate('The man is speaking English, saying: "Yes."', frames=20, seed=3)
    assert np.array_equal(made.frames_FHW3, again.frames_FHW3) and np.array_equal(made.audio_CS, again.audio_CS)
    other = pipe.generate('The man is speaking English, saying: "No."', frames=20, seed=3)
    assert not np.array_equal(made.audio_CS, other.audio_CS)


def test_parts_of_a_clip_may_have_prompts_of_their_own(pipe: DubPipeline) -> None:
    yes, no = ('The man is speaking English, saying: "Yes."', 'The man is speaking English, saying: "No."')
    plain, twice, both = (
        pipe.generate(prompt, frames=20, seed=3)
        for prompt in (yes, Timeline((yes, yes), (0.4,)), Timeline((yes, no), (0.4,)))
    )
    same, other = (float(np.abs(plain.audio_CS - made.audio_CS).max()) for made in (twice, both))
    assert other > 20 * same, f"{other} {same}"
    with pytest.raises(UsageError, match="2 prompts"):
        pipe.generate(Timeline((yes, no)), frames=20)


def test_size_and_rate_may_be_chosen(pipe: DubPipeline) -> None:
    made = pipe.generate("A boat.", frames=9, frame_rate=Fraction(30000, 1001), size=(96, 64))
    assert made.frames_FHW3.shape == (9, 64, 96, 3)
    assert made.audio_CS.shape[1] == round(Fraction(9 * 1001, 30000) * made.audio_rate)
    with pytest.raises(UsageError):
        pipe.generate("A boat.", frames=9, size=(70, 64))


def test_schedules_follow_the_card(pipe: DubPipeline, tmp_path: Path) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=0.4)
    few = DubPipeline(replace(pipe.backbone, card=replace(CARD, schedule_tokens=256, steps=4)))
    sigmas = [p(clip, prompt="A boat.", steps=4).manifest.content["sampling"]["sigmas"] for p in (pipe, few)]
    assert all(low < high for low, high in zip(sigmas[1][1:3], sigmas[0][1:3], strict=True))


@pytest.mark.parametrize(("usual", "told"), [(0.0, False), (4.0, False), (60.0, True)])
def test_foreign_footage_is_named_in_one_line(pipe: DubPipeline, tmp_path: Path, usual: float, told: bool) -> None:
    clip = clips.make_clip(tmp_path / "clip.mp4", seconds=0.4)
    judged = DubPipeline(replace(pipe.backbone, card=replace(CARD, round_trip_db=usual)))
    notes = judged(clip, prompt="A boat.").manifest.adjustments
    assert any("far from what random was trained on" in note for note in notes) == told
