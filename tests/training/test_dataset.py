"""Lists of pairs: three formats, two projects' names, every fault by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from justdub.errors import BadInputError, MissingError
from justdub.training.dataset import read_pairs

CAPTION = 'The woman is speaking French, saying: "Bonjour."'
GOOD = {"caption": CAPTION, "media_path": "a.mp4", "reference_path": "b.mp4"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "data"
    (home / "clips").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "c.mp4", "m.mp4", "clips/a.mp4"):
        (home / name).write_bytes(b"x")
    (home / "empty.mp4").touch()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    return home


def write(folder: Path, *entries: object, name: str = "dataset.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(list(entries)), encoding="utf-8")
    return path


def test_a_published_list(folder: Path) -> None:
    found = read_pairs(write(folder, GOOD | {"mask_path": "m.mp4"}, GOOD | {"media_path": "clips/a.mp4", "fps": 25}))
    first, second = found.pairs
    assert (first.target, first.reference, first.mask) == (folder / "a.mp4", folder / "b.mp4", folder / "m.mp4")
    assert first.caption == CAPTION and (first.entry, second.entry) == (1, 2)
    assert second.mask is None and not found.faults
    assert found.ignored == ("fps",)


def test_three_formats_are_one(folder: Path) -> None:
    rows = [GOOD, GOOD | {"media_path": "c.mp4", "caption": "Zwei, mit Komma."}]
    (folder / "d.jsonl").write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    lines = ['"' + '","'.join(text.replace('"', '""') for text in row.values()) + '"' for row in rows]
    (folder / "d.csv").write_text("\ufeff" + "\n".join([",".join(GOOD), *lines]), encoding="utf-8")
    expected = read_pairs(write(folder, *rows)).pairs
    assert len(expected) == 2
    assert read_pairs(folder / "d.jsonl").pairs == read_pairs(folder / "d.csv").pairs == expected


def test_names_of_the_other_trainer(folder: Path) -> None:
    entry = {"caption": CAPTION, "video": "a.mp4", "reference_video": "b.mp4", "audio": "a.wav"}
    found = read_pairs(write(folder, entry))
    assert found.pairs == read_pairs(write(folder, GOOD)).pairs
    assert found.ignored == ("audio",)


FAULTS = {
    "no caption": {"media_path": "a.mp4", "reference_path": "b.mp4"},
    "no media_path": {"caption": CAPTION, "reference_path": "b.mp4"},
    "no reference_path": {"caption": CAPTION, "media_path": "a.mp4", "reference_path": None},
    "the caption is empty": GOOD | {"caption": "  "},
    "a caption of 5000 characters": GOOD | {"caption": "x" * 5000},
    "caption is a list": GOOD | {"caption": [CAPTION]},
    "media_path is a number": GOOD | {"media_path": 3},
    "mask_path is true or false": GOOD | {"mask_path": True},
    "media_path 'none.mp4' does not exist": GOOD | {"media_path": "none.mp4"},
    "media_path 'clips' is no file": GOOD | {"media_path": "clips"},
    "reference_path 'empty.mp4' is empty": GOOD | {"reference_path": "empty.mp4"},
    "mask_path 'gone.mp4' does not exist": GOOD | {"mask_path": "gone.mp4"},
    "'../secret.mp4' leaves the list's folder": GOOD | {"media_path": "../secret.mp4"},
    "'/etc/hostname' leaves the list's folder": GOOD | {"reference_path": "/etc/hostname"},
    "'https://host/a.mp4' is no path": GOOD | {"media_path": "https://host/a.mp4"},
    "is no path of a file": GOOD | {"media_path": "a\0.mp4"},
    "then is a text, expected a list of [seconds, prompt]": GOOD | {"then": "and"},
    "then is a list, expected a list of [seconds, prompt], the seconds rising": GOOD | {"then": [[2, "a"], [1, "b"]]},
    "target and reference are the same file": GOOD | {"reference_path": "clips/../a.mp4"},
    "the same as entry 1": GOOD,
    "a text, expected keys and values": "a.mp4",
    "nothing, expected keys and values": None,
}


@pytest.mark.parametrize("message", FAULTS)
def test_every_fault_is_one_line_and_the_rest_is_used(folder: Path, message: str) -> None:
    found = read_pairs(write(folder, GOOD, FAULTS[message], GOOD | {"media_path": "c.mp4"}))
    (fault,) = found.faults
    assert message in str(fault) and str(fault).startswith("entry 2: ") and "\n" not in str(fault)
    assert [pair.entry for pair in found.pairs] == [1, 3]


def test_a_link_does_not_lead_outside(folder: Path) -> None:
    (folder / "link.mp4").symlink_to(folder.parent / "secret.mp4")
    (fault,) = read_pairs(write(folder, GOOD, GOOD | {"media_path": "link.mp4"})).faults
    assert "leaves" in fault.reason


def test_outside_may_be_allowed(folder: Path) -> None:
    found = read_pairs(write(folder, GOOD | {"media_path": "../secret.mp4"}), outside=True)
    assert found.pairs[0].target == folder.parent / "secret.mp4"


def test_broken_lines_are_named(folder: Path) -> None:
    (folder / "d.jsonl").write_text(json.dumps(GOOD) + "\n{broken\n")
    assert "entry 2: not JSON" in str(read_pairs(folder / "d.jsonl").faults[0])
    (folder / "d.csv").write_text("caption,media_path,reference_path\nx,a.mp4,b.mp4\ny,a.mp4\n")
    assert "another number of columns" in read_pairs(folder / "d.csv").faults[0].reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.json", b"{", "is not JSON"),
        ("d.json", b"{}", "holds keys and values; expected a list"),
        ("d.json", b"[]", "holds no pair"),
        ("d.json", b'[{"caption": "x"}]', "no pair that can be used; entry 1: no media_path"),
        ("d.json", b"\xff\xfe\x00", "is not UTF-8"),
        ("d.yaml", b"a: 1", "expected .json, .jsonl or .csv"),
    ],
)
def test_a_list_that_is_none(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_pairs(folder / name)


def test_no_list(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        read_pairs(tmp_path / "none.json")


def test_references_are_asked_for_only_where_they_are_used(folder: Path) -> None:
    alone = {"caption": CAPTION, "media_path": "a.mp4", "mask_path": "m.mp4"}
    path = write(folder, GOOD, alone, alone | {"reference_path": "none.mp4"})
    assert str(read_pairs(path).faults[0]) == "entry 2: no reference_path"
    found = read_pairs(path, references=False)
    assert [pair.reference for pair in found.pairs] == [folder / "b.mp4", None]
    assert "does not exist" in str(found.faults[0]), "one that is named must be there"


def test_prompts_that_follow(folder: Path) -> None:
    (pair,) = read_pairs(write(folder, GOOD | {"then": [[1.5, " Later. "], [3, "Last."]]})).pairs
    assert pair.later == ((1.5, "Later."), (3.0, "Last.")) and pair.prompts == (CAPTION, "Later.", "Last.")
