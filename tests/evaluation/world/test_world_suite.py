"""The suite end to end on a few clips: rows in the order they must have, files, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from justdub.cli.main import run as command
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.errors import BadInputError, UsageError
from justdub.evaluation.world import judges, suite


@pytest.fixture(scope="module")
def pipe() -> DubPipeline:
    return DubPipeline.from_pretrained(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def outcome(pipe: DubPipeline) -> suite.Outcome:
    return suite.run(pipe, judges.load(), clips=4, settings=DubSettings(steps=2, guidance=1.0, audio_guidance=1.0))


def test_true_clips_are_held_out_and_speaking() -> None:
    clips, prompts = suite.true_clips(5, 0, lambda *_: None)
    assert len(clips) == len(prompts) == 5
    for clip, prompt in zip(clips, prompts, strict=True):
        assert clip.text in prompt and "speaking" in prompt
        assert clip.frames.shape == (49, 96, 96, 3) and len(clip.samples) == 31360


def test_truth_beats_chance_and_the_codecs_keep_it(outcome: suite.Outcome) -> None:
    rows = outcome.rows
    assert list(rows) == ["generated", "coded", "truth", "shuffled"]
    assert rows["truth"]["word_accuracy"] > 0.9 and rows["shuffled"]["word_accuracy"] < 0.4
    assert rows["coded"]["word_accuracy"] > 0.8
    assert rows["coded"]["lips_articulation"] > 0.7 > 0.4 > rows["shuffled"]["lips_articulation"]
    assert outcome.sheet.shape == (96, 8 * 96, 3)


def test_it_is_written(outcome: suite.Outcome, tmp_path) -> None:
    names = [path.name for path in suite.write(outcome, tmp_path / "out")]
    assert names == ["table.md", "scores.json", "sheet.png"]
    plain = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert len(plain["clips"]) == 4 and plain["rows"]["generated"]["voice"] is None
    assert (tmp_path / "out" / "table.md").read_text().count("\n") == 6


def test_a_backbone_of_another_rate_is_refused(pipe: DubPipeline) -> None:
    audio = SimpleNamespace(sample_rate=16000, output_rate=24000)
    other = DubPipeline(replace(pipe.backbone, audio_codec=audio))
    with pytest.raises(BadInputError, match="24000 Hz"):
        suite.run(other, judges.load(), clips=2, settings=DubSettings())


def test_the_verb_asks_for_two_clips() -> None:
    assert command(["eval", "world", "--n", "1"]) == UsageError.exit_code


def test_frames_of_the_sheet_fill_rows_of_eight() -> None:
    stills = [np.full((2, 3, 3), number, np.uint8) for number in range(10)]
    sheet = suite._sheet(stills)
    assert sheet.shape == (4, 24, 3) and sheet[2, 5, 0] == 9 and not sheet[2:, 6:].any()
