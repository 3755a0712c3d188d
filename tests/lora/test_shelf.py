"""The shelf: names, their order, what a wrong name is answered with."""

from __future__ import annotations

import os
import re
from pathlib import Path

import models
import pytest
from adapter_files import EVERYWHERE, random_factors, save

from justdub.errors import MissingError
from justdub.lora import shelf
from justdub.lora.files import write
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules


def put(root: Path, name: str, title: str = "") -> Path:
    (root / name).mkdir(parents=True)
    said = AdapterMetadata(rules=SequenceRules(), languages=(name,), base="mini", rank=3)
    write(root / name / shelf.FILE, random_factors(models.tiny_transformer(), EVERYWHERE[:2]), said)  # bfloat16
    if title:
        (root / name / shelf.CARD).write_text(f"---\nlicence: x\n---\n\n# {title}\n\nText.\n", encoding="utf-8")
    return root / name / shelf.FILE


@pytest.fixture
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two shelves of the user's, and a working folder that is neither."""
    one, two = tmp_path / "one", tmp_path / "two"
    put(one, "fr", "French")
    put(two, "fr")
    put(two, "de")
    (two / "empty").mkdir()
    monkeypatch.setenv(shelf.VARIABLE, os.pathsep.join([str(one), str(two), str(tmp_path / "none")]))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return one, two


def test_the_first_shelf_that_has_a_name_wins(shelves: tuple[Path, Path]) -> None:
    one, two = shelves
    assert shelf.find("fr") == one / "fr" / shelf.FILE
    assert shelf.find("de") == two / "de" / shelf.FILE
    assert {"fr", "de"} <= set(shelf.names()) and "empty" not in shelf.names()


def test_the_repositorys_shelf_comes_after_the_users(shelves: tuple[Path, Path]) -> None:
    repository = Path(shelf.__file__).parents[2] / "adapters"
    assert shelf.shelves()[:3] == [*shelves, repository]


def test_a_local_path_wins_over_a_name(shelves: tuple[Path, Path]) -> None:
    Path("fr").mkdir()
    assert shelf.find("fr") == shelves[0] / "fr" / shelf.FILE  # a folder that holds no adapter is no answer
    put(Path(), "de")
    assert shelf.find("de") == Path("de") / shelf.FILE
    save(Path("mine.safetensors"), random_factors(models.tiny_transformer(), EVERYWHERE[:1]))
    assert shelf.find("mine.safetensors") == Path("mine.safetensors")
    save(Path("peft"), random_factors(models.tiny_transformer(), EVERYWHERE[:1]), world="peft")
    assert shelf.find("peft") == Path("peft")
    assert shelf.name_of(Path("peft/adapter_model.safetensors")) == "peft"


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
        shelf.find(name)
    assert re.search(said, str(caught.value))


def test_an_entry_is_read_from_header_and_card(shelves: tuple[Path, Path]) -> None:
    entry = shelf.describe("fr", shelf.find("fr"))
    factors = random_factors(models.tiny_transformer(), EVERYWHERE[:2])
    numbers = sum(f.down_rI.numel() + f.up_Or.numel() for f in factors.values())
    assert (entry.title, entry.languages, entry.base) == ("French", ("fr",), "mini")
    assert (entry.rank, entry.parameters, entry.size) == (3, numbers, entry.path.stat().st_size)
