"""Results of a stage: there whole or not at all, and never of other settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.store import Store, digest
from justdub.errors import BadInputError


def test_a_clip_is_there_when_its_files_are(tmp_path: Path) -> None:
    store = Store(tmp_path, "mask", {"seed": 1})
    assert store.facts(3) is None and store.numbers() == []
    store.add(3, {"cells": 0.5}, {".mp4": b"abc"})
    assert store.usable(3)["cells"] == 0.5 and store.path(3, ".mp4").read_bytes() == b"abc"
    store.path(3, ".mp4").write_bytes(b"ab")
    assert store.facts(3) is None, "a file of another size is not the one that was written"
    store.path(3, ".mp4").unlink()
    assert store.facts(3) is None
    store.reject(4, "no face")
    assert store.facts(4)["reason"] == "no face" and store.usable(4) is None
    store.add(3, {}, {".mp4": b"abc"})
    store.write_manifest()
    assert len((tmp_path / "mask" / "manifest.jsonl").read_text().splitlines()) == 2
    assert not list(tmp_path.rglob("*.part"))


def test_results_of_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    Store(tmp_path, "mask", {"mask": {"threshold": 0.1}, "seed": 1})
    with pytest.raises(BadInputError, match=r"mask\.threshold 0\.1, now 0\.2") as found:
        Store(tmp_path, "mask", {"mask": {"threshold": 0.2}, "seed": 1})
    assert "another out, or delete mask" in str(found.value)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(BadInputError, match="nothing can be written"):
        Store(tmp_path / "out", "mask", {})


def test_the_digest_follows_names_and_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"x"), other.write_bytes(b"y")
    assert digest({"a": one, "b": other}) == digest({"b": other, "a": one})
    assert digest({"a": one, "b": other}) != digest({"a": other, "b": one})
