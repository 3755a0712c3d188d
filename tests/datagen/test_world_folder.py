"""Numbered results that are whole or not there."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest

from datagen.world.folder import ClipFolder
from justdub.errors import BadInputError

RATES = {"frame_rate": Fraction(25), "sample_rate": 16000}
MASK = np.zeros((3, 16, 16), bool)


def test_a_result_is_there_once_its_facts_are(tmp_path):
    folder = ClipFolder(tmp_path, {"seed": 0}, ("_a", "_b"))
    assert folder.find(7) is None
    folder.add(7, [b"one", b"two"], MASK, {"said": "ça"}, **RATES)
    assert folder.find(7) == {"world": {"seed": 0}, "said": "ça"}
    assert [(tmp_path / name).read_bytes() for name in folder.clips(7)] == [b"one", b"two"]
    (tmp_path / folder.mask(7)).unlink()
    assert folder.find(7) is None, "a part of it is gone"


def test_a_write_that_is_cut_off_leaves_no_result(tmp_path):
    folder = ClipFolder(tmp_path, {})

    def broken():
        yield from ()
        raise OSError(28, "No space left on device")

    with pytest.raises(BadInputError, match="cannot be written: No space left"), folder.writing():
        folder.add(1, broken(), MASK, {}, **RATES)
    assert folder.find(1) is None and not list(tmp_path.rglob("*.json"))


def test_results_of_another_origin_and_places_that_cannot_be_written_are_refused(tmp_path):
    ClipFolder(tmp_path / "set", {"seed": 0}).put_json("clips/000001.json", {"world": {"seed": 0}})
    with pytest.raises(BadInputError, match="another world"):
        ClipFolder(tmp_path / "set", {"seed": 1}).find(1)
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(BadInputError, match="nothing can be written"):
        ClipFolder(tmp_path / "file", {})
