"""The shipped judges on a few true clips of the split that no training saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datagen.world.clip import World
from justdub.errors import BadInputError
from justdub.evaluation.world.judges import WEIGHTS, load, load_net
from justdub.evaluation.world.table import Clip, judge, table

STEP = 640  # samples per frame


@pytest.fixture(scope="module")
def judges():
    return load()


@pytest.fixture(scope="module")
def clips():
    """Ten dialogue clips of `test`."""
    world = World(seed=0)
    plans = (world.plan(index, "test") for index in range(1000, 1100))
    chosen = [plan for plan in plans if plan.scene_type == "dialogue" and not plan.ambience and not plan.laughs][:10]
    batch = world.render(chosen)
    return [batch[index] for index in range(10)]


def as_input(clip) -> Clip:
    return Clip(clip.frames, clip.samples, clip.take.plan.text, clip.take.plan.language)


def test_all_weights_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) < 4e6


def test_an_unknown_judge_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="words"):
        load_net(tmp_path, "words")


def test_words_and_language_are_heard(judges, clips):
    found = [judge(judges, as_input(clip)) for clip in clips]
    assert np.mean([one.word_accuracy for one in found]) > 0.85
    assert np.mean([one.language_right for one in found]) >= 0.9


def test_lips_are_read_from_frames_of_any_size(judges, clips):
    truth = np.concatenate([clip.take.mouth.opening_F for clip in clips[:4]])
    read = np.concatenate([judges.lips.read(clip.frames)[:, 0] for clip in clips[:4]])
    doubled = np.concatenate([judges.lips.read(clip.frames.repeat(2, 1).repeat(2, 2))[:, 0] for clip in clips[:4]])
    assert np.corrcoef(truth, read)[0, 1] > 0.85
    assert np.corrcoef(read, doubled)[0, 1] > 0.95


@pytest.mark.parametrize("late", [-4, 4])
def test_a_moved_sound_is_found_moved(judges, clips, late):
    right = []
    for clip in clips:
        moved = np.zeros_like(clip.samples)
        if late > 0:
            moved[late * STEP :] = clip.samples[: -late * STEP]
        else:
            moved[: late * STEP] = clip.samples[-late * STEP :]
        right.append(abs(judge(judges, as_input(clip)._replace(samples=moved)).offset - late) <= 1)
    assert np.mean(right) >= 0.7


def test_a_person_resembles_themself(judges, clips):
    world = World(seed=0)
    first, second = (clip.take.plan for clip in clips[:2])
    again = world.render([replace(second, face=first.face, voice=first.voice)])[0]
    for embed, given in ((judges.voice.embed, "samples"), (judges.face.embed, "frames")):
        one, same, other = (embed(getattr(clip, given)) for clip in (clips[0], again, clips[1]))
        assert one @ same > one @ other


def test_the_table_parts_truth_from_shuffled_clips(judges, clips):
    inputs = [as_input(clip) for clip in clips]
    rows = table(judges, [tuple(clip)[:4] for clip in inputs[:2]], inputs)
    assert list(rows) == ["generated", "truth", "shuffled"]
    assert rows["generated"]["clips"] == 2
    for column in ("word_accuracy", "lips_articulation", "confidence"):
        assert rows["truth"][column] > rows["shuffled"][column]
    assert rows["truth"]["sync_within_1"] > 0.7
