"""Clips that switch language as a training set: whole, resumable, with masks that cover the mouth; their command."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from datagen.world import switching, switching_set
from datagen.world.__main__ import main as command
from datagen.world.render import render
from justdub.errors import BadInputError, UsageError
from justdub.media import FrameReader, probe
from justdub.training.dataset import read_pairs

REQUEST = switching_set.Request(2, first=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("switching") / "set"
    assert switching_set.write(root, REQUEST, command="the command") == 2
    return root


def frames_of(path) -> np.ndarray:
    return np.concatenate(list(FrameReader(probe(path))))


def test_clips_are_what_was_drawn_and_their_masks_hide_what_moves(folder):
    world = REQUEST.world()
    for pair, number in zip(read_pairs(folder / "dataset.json", references=False).pairs, (5, 6), strict=True):
        take = switching.draw(world, number, "base")
        drawn = render([take.drawing], size=world.size, lips=True)
        frames = frames_of(pair.target)
        assert np.array_equal(frames, drawn.frames[0].numpy()) and len(frames) == 97
        said = switching.choose(world, number, "base")
        assert pair.prompts == said.prompts and pair.later[0][0] == 49 / 25 and pair.reference is None
        white = frames_of(pair.mask).max(-1) > 127
        lips = drawn.lips[0].numpy() > 0.5
        assert not (lips & ~white).any() and white.mean() < 0.25


def test_what_is_there_is_not_drawn_again(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    lost = folder / "masks/000006.mp4"
    lost.unlink()
    told = []
    switching_set.write(folder, REQUEST, progress=lambda *so_far: told.append(so_far))
    assert told == [(1, 1)]
    assert all(path.stat().st_mtime_ns == at for path, at in before.items() if "000005" in path.name)


def test_clips_of_another_request_are_refused(folder):
    with pytest.raises(BadInputError, match="clips of another world"):
        switching_set.write(folder, switching_set.Request(2, first=5, split="adapters"))


def test_a_request_is_checked():
    for wrong in ({"count": 0}, {"count": 1, "split": "none"}, {"count": 1, "frames": 20}, {"count": 1, "first": -1}):
        with pytest.raises(UsageError):
            switching_set.Request(**wrong)


def test_the_command(tmp_path, capsys):
    assert command(["switching", "--out", str(tmp_path / "s"), "--n", "1", "--workers", "1"]) == 0
    (entry,) = json.loads((tmp_path / "s" / "dataset.json").read_text(encoding="utf-8"))
    assert set(entry) == {"caption", "then", "media_path", "mask_path"}
    assert "python -m datagen.world switching" in (tmp_path / "s" / "README.md").read_text(encoding="utf-8")
    assert command(["switching", "--out", str(tmp_path / "s"), "--n", "0"]) == UsageError.exit_code
    assert "switching: error: 0 clips" in capsys.readouterr().err
