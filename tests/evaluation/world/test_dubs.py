"""The suite of dubs: scores by hand, rows that need no model, two short dubs with the bundled backbone."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from adapter_files import write_adapter

from justdub.cli.main import run as command
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.evaluation.world import dubs, heldout, judges, scores
from justdub.evaluation.world.dubbed import COLUMNS, VOICES, DubScores, Voices, difference, figure
from justdub.evaluation.world.table import Scores
from justdub.lora.files import read
from justdub.lora.reference import Strength
from justdub.sequence import SequenceRules


@pytest.fixture(scope="module")
def judge_all():
    return judges.load()


@pytest.fixture(scope="module")
def known(judge_all) -> dubs.Outcome:
    """Six tasks without a model."""
    return dubs.run(None, judge_all, heldout.Tasks(6))


def value(outcome: dubs.Outcome, row: str, column: str) -> float:
    return figure(outcome.scores[row], column).value


# -- scores by hand ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "old", "new", "share"),
    [
        ("le chat dort", "le chat dort", "the cat sleeps", 1),
        ("the cat sleeps", "le chat dort", "the cat sleeps", 0),
        ("la chat dort", "la chat dort", "la gata duerme", 1),
        ("la gata duerme", "la chat dort", "la gata duerme", 0),
        ("the chat", "le chat dort", "the cat sleeps", 1 / 3),
        ("", "le chat dort", "the cat sleeps", 0),
        ("anna", "anna", "anna", None),
    ],
)
def test_only_words_that_the_new_line_lacks_can_leak(said, old, new, share):
    assert scores.leaked(said.split(), old.split(), new.split()) == pytest.approx(share)


def test_the_error_of_a_picture_counts_only_where_it_is_asked():
    one, where = np.full((2, 4, 4, 3), 250, np.uint8), np.zeros((2, 4, 4), bool)
    other = one.copy()
    other[0, 0, 0] = (0, 250, 255)
    assert scores.picture_error(one, other, where) is None
    where[0, 0, :2] = True
    assert scores.picture_error(one, other, where) == scores.picture_error(other, one, where) == (250 + 5) / 6
    assert scores.picture_error(one, other, ~where) == 0


def test_the_nearest_voice():
    right, others = np.array([1.0, 0, 0]), np.eye(3)[1:]
    assert scores.is_nearest(np.array([0.8, 0.6, 0]), right, others)
    assert not scores.is_nearest(np.array([0.6, 0.8, 0]), right, others)


def scored(accuracy: float, offset: int = 0, leaked: float | None = 0.5) -> DubScores:
    heard = Scores(("a",), accuracy, True, 0.1, 0.2, offset, 0.3, None, None)
    return DubScores(heard, leaked, None, None, voice_found=False)


def test_figures_are_means_and_medians_with_intervals():
    row = [scored(1, 0), scored(0, -4), scored(0.5, 1), None]
    mean, offset = figure(row, "word_accuracy"), figure(row, "offset")
    assert (mean.value, mean.count, offset.value) == (0.5, 3, 1) and mean.low < 0.5 < mean.high
    assert (figure(row, "clips").value, figure(row, "sync_within_1").value) == (3, pytest.approx(2 / 3))
    assert figure(row, "face").count == 0 and np.isnan(figure(row, "face").value)
    assert np.isnan(figure(row[:1], "word_accuracy").low)
    rng = np.random.default_rng(0)
    many = figure([scored(accuracy) for accuracy in rng.normal(0.5, 0.2, 400)], "word_accuracy")
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.2 / 20, rel=0.15)


def test_differences_are_of_the_same_clips():
    base = [scored(accuracy) for accuracy in (0.0, 0.3, 0.9, 0.4)]
    better = [scored(one.heard.word_accuracy + 0.1) for one in base]
    better[2] = None
    found = difference(better, base, "word_accuracy")
    assert found.count == 3 and found.value == pytest.approx(0.1)
    assert found.high - found.low < 1e-9  # whichever clips are drawn, the difference is the same


def test_rows_have_names_of_their_own():
    half = Strength.of(0.5)
    names = [
        ("fr", Strength()),
        ("fr", half),
        ("/a/dub/adapter.safetensors", Strength()),
        ("b/dub.safetensors", Strength()),
    ]
    assert dubs.row_names([*names, ("base", Strength())]) == ["fr", "fr:0.5", "dub", "dub (2)", "base (2)"]


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_tasks_are_held_out_pairs_with_places_that_must_not_change():
    for task in heldout.Tasks(3, first=40):
        source, target = task.source, task.target
        assert task.voice % 10 == 9 and source.language != target.language
        assert target.text in task.prompt and source.text not in task.prompt
        assert np.array_equal(source.frames[task.backdrop_FHW], target.frames[task.backdrop_FHW])
        assert 0.15 < task.backdrop_FHW.mean() < 0.75
        assert 0.85 < task.elsewhere_FHW.mean() < 0.98
        everywhere = np.ones_like(task.elsewhere_FHW)
        apart, near = (
            scores.picture_error(source.frames, target.frames, where) for where in (everywhere, ~task.elsewhere_FHW)
        )
        assert near > 4 * apart  # what moves lies there


def test_nothing_of_a_person_is_backdrop():
    task = next(iter(heldout.Tasks(1)))
    frame, backdrop = task.source.frames[0], task.backdrop_FHW[0]
    assert backdrop[2, 2] and not backdrop[90, 48] and not backdrop[48, 48] and len(frame) == 96


def test_the_target_has_the_wanted_language():
    tasks = heldout.Tasks(8, languages=("fr",))
    assert {target.language for _, target in tasks.plans} == {"fr"}
    assert {source.half for source, _ in tasks.plans} == {0, 1}


def test_other_voices_are_strangers(judge_all):
    tasks = heldout.Tasks(2)
    sounds = tasks.voices(20)
    numbers = [number for number, _ in sounds]
    assert len(set(numbers)) == 20 and not set(numbers) & {source.voice for source, _ in tasks.plans}
    voices, (one, other) = Voices(judge_all, sounds), tasks
    assert voices.beside(one).shape[0] == VOICES
    assert np.array_equal(voices.beside(one), voices.beside(one))
    assert not np.array_equal(voices.beside(one), voices.beside(other))


# -- rows without a model ----------------------------------------------------------------------------------------------


def test_truth_is_the_ceiling(known):
    assert value(known, "truth", "word_accuracy") > 0.9 and value(known, "truth", "language_right") == 1
    assert value(known, "truth", "leaked") < 0.05
    assert value(known, "truth", "background") == 0 and 0 < value(known, "truth", "outside") < 0.5
    assert value(known, "truth", "face") > 0.95 and value(known, "truth", "sync_within_1") == 1


def test_a_copy_keeps_everything_and_says_the_old_line(known):
    assert value(known, "copy", "leaked") > 0.9 and value(known, "copy", "language_right") == 0
    assert value(known, "copy", "word_accuracy") < 0.2
    assert value(known, "copy", "outside") == value(known, "copy", "background") == 0
    assert value(known, "copy", "voice_found") == 1 and value(known, "copy", "face") == pytest.approx(1)


def test_shuffled_sound_is_chance(known):
    for column in ("lips_sound", "lips_articulation", "word_accuracy", "sync_within_1"):
        assert value(known, "shuffled", column) < value(known, "truth", column) - 0.2
    assert np.isnan(value(known, "shuffled", "outside")) and np.isnan(value(known, "shuffled", "face"))


def test_a_changed_background_and_a_changed_mouth_count_in_their_columns(judge_all):
    tasks = heldout.Tasks(1)
    task = next(iter(tasks))
    voices = Voices(judge_all, tasks.voices(VOICES))
    mouth, behind = task.source.frames.copy(), task.source.frames.copy()
    mouth[~task.elsewhere_FHW] ^= 255
    behind[task.backdrop_FHW] ^= 16
    of_mouth, of_behind = (
        dubs.judge_dub(judge_all, voices, task, frames, task.source.samples) for frames in (mouth, behind)
    )
    assert of_mouth.outside == 0 and of_mouth.background < 0.1  # a turned head's box reaches past its cheek
    assert of_behind.background == 16 and 0 < of_behind.outside < 16


# -- with the bundled backbone -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipe() -> DubPipeline:
    return DubPipeline.from_pretrained(device="cpu", dtype="float32")


def test_base_and_adapter_are_dubbed_and_all_is_written(pipe, judge_all, tmp_path):
    path = write_adapter(tmp_path / "fr.safetensors", rules=SequenceRules())
    told = []
    outcome = dubs.run(
        pipe,
        judge_all,
        heldout.Tasks(2),
        adapters=[dubs.Adapter("fr", read(path))],
        settings=DubSettings(steps=1, guidance=1.0, audio_guidance=1.0),
        progress=lambda *so_far: told.append(so_far),
    )
    assert not pipe.adapters
    assert told[-1] == ("generate", 4, 4)
    lines = outcome.markdown().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["truth", "coded", "copy", "base", "fr", "shuffled"]
    assert all(line.count("|") == len(COLUMNS) + 2 for line in lines)
    assert value(outcome, "truth", "outside") < value(outcome, "coded", "outside") < value(outcome, "base", "outside")
    assert value(outcome, "coded", "word_accuracy") > 0.7
    assert outcome.scores["base"][0].outside != outcome.scores["fr"][0].outside
    assert [one.name for one in dubs.write(outcome, tmp_path / "out")] == ["table.md", "scores.json", "sheet.png"]
    plain = json.loads((tmp_path / "out" / "scores.json").read_text(encoding="utf-8"))
    assert plain["dubs"]["fr"]["rules"]["reference"] == "bidirectional" and plain["tasks"]["pairs"] == 2
    assert set(plain["minus_base"]) == {"truth", "coded", "copy", "fr"} and len(plain["clips"]) == 2
    assert set(plain["clips"][0]["rows"]) == set(plain["rows"])
    assert (tmp_path / "out" / "table.md").read_text(encoding="utf-8").startswith(outcome.markdown())
    assert outcome.sheet().shape == (2 * (96 + 4 + 64 + 8), 4 * 480 + 3 * 8, 3)


def test_a_row_may_have_an_adapter_for_each_language(pipe, judge_all, tmp_path):
    """Every clip is dubbed exactly as by its language's adapter alone; the controls can be left out."""
    files = {
        code: read(write_adapter(tmp_path / f"{code}.safetensors", rules=SequenceRules(), scale=scale))
        for code, scale in (("ru", 0.3), ("fr", 0.1), ("de", 0.2), ("es", 0.2), ("en", 0.2))
    }
    settings, tasks = DubSettings(steps=1, guidance=1.0, audio_guidance=1.0), heldout.Tasks(2)
    rows = [dubs.Adapter("own", files), dubs.Adapter("ru", files["ru"]), dubs.Adapter("fr", files["fr"])]
    outcome = dubs.run(pipe, judge_all, tasks, adapters=rows, controls=False, settings=settings)
    assert list(outcome.scores) == ["truth", "own", "ru", "fr"] and not pipe.adapters
    assert [task["to"] for task in outcome.tasks] == ["ru", "fr"]
    own, other = outcome.scores["own"], outcome.scores
    assert own == [other["ru"][0], other["fr"][1]] != [other["fr"][0], other["ru"][1]]
    assert [one["path"] for one in outcome.plain()["dubs"]["own"]["files"]] == [str(f.path) for f in files.values()]


def test_a_backbone_of_another_rate_is_refused(pipe, judge_all):
    audio = SimpleNamespace(sample_rate=16000, output_rate=24000)
    other = DubPipeline(replace(pipe.backbone, audio_codec=audio))
    with pytest.raises(BadInputError, match="24000 Hz"):
        dubs.run(other, judge_all, heldout.Tasks(2))


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--n", "1"], UsageError.exit_code, "--n 1"),
        (["--to", "it"], UsageError.exit_code, "'it'"),
        (["--adapter", "/no/such.safetensors"], MissingError.exit_code, "such.safetensors"),
        (["--adapter", "fr", "--no-adapter"], UsageError.exit_code, "--no-adapter"),
        (["--adapter", "/no/{to}.safetensors"], MissingError.exit_code, "/no/en.safetensors"),
        (["--no-controls"], UsageError.exit_code, "--no-controls"),
        (["--steps", "0"], UsageError.exit_code, "0 steps"),
    ],
)
def test_a_fault_is_one_line(capsys, options, code, words):
    assert command(["eval", "dubs", *options]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and words in said
