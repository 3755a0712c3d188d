"""The shelf: names, their order, what a wrong name is answered with."""

from __future__ import annotations

import os
import re
from pathlib import Path

import models
import pytest
from adapter_files import EVERYWHERE, random_factors, save

from justdub.errors import MissingError
from justdub.lora import library
from justdub.lora.files import write
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules


def put(shelf: Path, name: str, title: str = "") -> Path:
    (shelf / name).mkdir(parents=True)
    said = AdapterMetadata(rules=SequenceRules(), languages=(name,), base="mini", rank=3)
    write(shelf / name / library.FILE, random_factors(models.tiny_transformer(), EVERYWHERE[:2]), said)  # bfloat16
    if title:
        (shelf / name / library.CARD).write_text(f"---\nlicence: x\n---\n\n# {title}\n\nText.\n", encoding="utf-8")
    return shelf / name / library.FILE


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two shelves of the user's, and a working folder that is neither."""
    one, two = tmp_path / "one", tmp_path / "two"
    put(one, "fr", "French")
    put(two, "fr")
    put(two, "de")
    (two / "empty").mkdir()
    monkeypatch.setenv(library.VARIABLE, os.pathsep.join([str(one), str(two), str(tmp_path / "none")]))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return one, two


def test_the_first_shelf_that_has_a_name_wins(shelves: tuple[Path, Path]) -> None:
    one, two = shelves
    assert library.find("fr") == one / "fr" / library.FILE
    assert library.find("de") == two / "de" / library.FILE
    assert {"fr", "de"} <= set(library.names()) and "empty" not in library.names()


def test_the_repositorys_shelf_comes_after_the_users(shelves: tuple[Path, Path]) -> None:
    repository = Path(library.__file__).parents[2] / "adapters"
    assert library.shelves()[:3] == [*shelves, repository]


def test_a_local_path_wins_over_a_name(shelves: tuple[Path, Path]) -> None:
    Path("fr").mkdir()
    assert library.find("fr") == shelves[0] / "fr" / library.FILE  # a folder that holds no adapter is no answer
    put(Path(), "de")
    assert library.find("de") == Path("de") / library.FILE
    save(Path("mine.safetensors"), random_factors(models.tiny_transformer(), EVERYWHERE[:1]))
    assert library.find("mine.safetensors") == Path("mine.safetensors")
    save(Path("peft"), random_factors(models.tiny_transformer(), EVERYWHERE[:1]), world="peft")
    assert library.find("peft") == Path("peft")
    assert library.name_of(Path("peft/adapter_model.safetensors")) == "peft"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("frr", "no adapter named 'frr'; expected one of fr, de.*, or a .safetensors file; try: fr"),
        ("zulu", r"no adapter named 'zulu'.*\$JUSTDUB_ADAPTERS"),
        ("fr.safetensors", "adapter fr.safetensors does not exist.*check the path"),
        ("some/where", "adapter some/where does not exist"),
        ("../two/empty", "is a directory without adapter.safetensors"),
    ],
)
def test_unknown_names(name: str, said: str, shelves: tuple[Path, Path]) -> None:
    with pytest.raises(MissingError) as caught:
        library.find(name)
    assert re.search(said, str(caught.value))


def test_an_entry_is_read_from_header_and_card(shelves: tuple[Path, Path]) -> None:
    entry = library.describe("fr", library.find("fr"))
    factors = random_factors(models.tiny_transformer(), EVERYWHERE[:2])
    numbers = sum(f.down_rI.numel() + f.up_Or.numel() for f in factors.values())
    assert (entry.title, entry.languages, entry.base) == ("French", ("fr",), "mini")
    assert (entry.rank, entry.parameters, entry.size) == (3, numbers, entry.path.stat().st_size)
