"""Swapping: another adapter in the memory of a loaded one. Exact there and back, and compiled code stays."""

from __future__ import annotations

import logging
from pathlib import Path

import models
import pytest
import torch
from adapter_files import EVERYWHERE, output, random_factors, save
from test_contract import Backbone, apart, by_hand

from justdub.errors import BadInputError, UsageError
from justdub.lora.files import AdapterFile
from justdub.lora.rack import AdapterRack
from justdub.lora.reference import Strength

FEW = EVERYWHERE[::5]


def make(tmp_path: Path, name: str, seed: int, rank: int, names=EVERYWHERE) -> AdapterFile:
    return save(
        tmp_path / f"{name}.safetensors", random_factors(models.tiny_transformer(), names, rank=rank, seed=seed)
    )


@pytest.fixture
def rack(tmp_path: Path) -> AdapterRack:
    return AdapterRack(Backbone(tmp_path))


def velocity(rack: AdapterRack) -> torch.Tensor:
    return output(rack.backbone.transformer)


@pytest.mark.parametrize("ranks", [(4, 4), (6, 2), (2, 6)])
def test_there_and_back_is_exact(ranks: tuple[int, int], rack: AdapterRack, tmp_path: Path) -> None:
    """Beside a third adapter, which must not notice. The files' own tensors stay as they were."""
    a, b = make(tmp_path, "a", 0, ranks[0]), make(tmp_path, "b", 1, ranks[1], FEW)
    other = make(tmp_path, "a_", 2, 3)  # its name contains "a"
    kept = {name: (f.down_rI.clone(), f.up_Or.clone()) for name, f in a.modules.items()}
    rack.prepare_swaps(6)
    rack.load(a, 0.9)
    rack.load(other)
    first = velocity(rack)
    assert rack.swap("a", b, Strength(1, 0.5, 0)) == "b"
    second = velocity(rack)
    assert list(rack.adapters) == ["b", "a_"]
    assert rack.swap("b", a, 0.9) == "a"
    assert torch.equal(velocity(rack), first)
    assert apart(first, by_hand((a, Strength.of(0.9)), (other, Strength()))) < 1e-4
    assert apart(second, by_hand((b, Strength(1, 0.5, 0)), (other, Strength()))) < 1e-4
    assert all(torch.equal(f.down_rI, kept[n][0]) and torch.equal(f.up_Or, kept[n][1]) for n, f in a.modules.items())


def test_without_preparation_equal_ranks_swap(rack: AdapterRack, tmp_path: Path) -> None:
    a, b = make(tmp_path, "a", 0, 4), make(tmp_path, "b", 1, 4)
    rack.load(a)
    first = velocity(rack)
    rack.swap("a", b)
    assert apart(velocity(rack), by_hand((b, Strength()))) < 1e-4
    rack.swap("b", a)
    assert torch.equal(velocity(rack), first)


def test_what_cannot_be_swapped_leaves_everything_as_it_was(rack: AdapterRack, tmp_path: Path) -> None:
    narrow = make(tmp_path, "narrow", 0, 2, FEW)
    rack.load(narrow)
    before = velocity(rack)
    with pytest.raises(UsageError, match=r"prepare_swaps\(3\)"):
        rack.swap("narrow", make(tmp_path, "wide", 1, 3, FEW))
    with pytest.raises(BadInputError, match="the most modules first"):
        rack.swap("narrow", make(tmp_path, "more", 1, 2))
    with pytest.raises(UsageError, match="no adapter 'other' is loaded; expected narrow"):
        rack.swap("other", narrow)
    with pytest.raises(UsageError, match="after an adapter was loaded"):
        rack.prepare_swaps(8)
    assert torch.equal(velocity(rack), before)
    assert list(rack.adapters) == ["narrow"]
    rack.unload()
    rack.prepare_swaps(2)
    with pytest.raises(UsageError, match="cannot be given rank 2"):
        rack.load(make(tmp_path, "too_wide", 1, 3))
    assert rack.adapters == {}


def test_compiled_blocks_are_not_compiled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A -> B -> A with other ranks, other modules and other strengths: the graph of the first run serves all."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)  # pytest would format every message
    few = [name for name in FEW if ".0." in name]
    a, b = make(tmp_path, "a", 0, 4, few), make(tmp_path, "b", 1, 2, few[:-1])
    compiled, plain = (AdapterRack(Backbone(tmp_path, layers=1)) for _ in range(2))
    for rack in (compiled, plain):
        rack.prepare_swaps(4)
        rack.load(a)
    torch._dynamo.reset()
    counters.clear()
    (block,) = compiled.backbone.transformer.module.transformer_blocks
    block.compile(backend="eager", fullgraph=True, dynamic=False)
    first = velocity(compiled)
    assert counters["stats"]["unique_graphs"] == 1
    for rack in (compiled, plain):
        rack.swap("a", b, Strength(1, 0.5, 0.3))
    swapped = velocity(compiled)
    assert apart(swapped, first) > 0.1
    assert apart(swapped, velocity(plain)) < 1e-5
    compiled.swap("b", a)
    assert torch.equal(velocity(compiled), first)
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()
