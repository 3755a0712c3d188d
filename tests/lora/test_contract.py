"""The contract of adapters on a transformer: fused, unfused, disabled, blended, swapped and scaled all agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import models
import pytest
import torch
from adapter_files import EVERYWHERE, output, random_factors, save

from justdub.backbone.checkpoint import Card
from justdub.errors import BadInputError, UsageError
from justdub.lora import files
from justdub.lora.blend import blend
from justdub.lora.config import group
from justdub.lora.factors import Factors
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.rack import AdapterRack
from justdub.lora.reference import Strength
from justdub.sequence import SequenceRules

FINGERPRINT = "00112233aabbccdd"


class Backbone:
    """What a rack needs of a backbone: a tiny transformer, a card, a fingerprint."""

    def __init__(self, folder: Path, generation: str = "2.0", layers: int = 2) -> None:
        self.transformer = models.joint(generation, layers=layers)
        self.card, self.folder, self.fingerprint = Card(name="tiny"), folder, FINGERPRINT


@pytest.fixture
def rack(tmp_path: Path) -> AdapterRack:
    return AdapterRack(Backbone(tmp_path))


@pytest.fixture
def a(tmp_path: Path) -> files.AdapterFile:
    return save(tmp_path / "a.safetensors", random_factors(models.tiny_transformer(), ranks=2))


@pytest.fixture
def b(tmp_path: Path) -> files.AdapterFile:
    return save(tmp_path / "b.safetensors", random_factors(models.tiny_transformer(), rank=2, seed=1))


def velocity(rack: AdapterRack) -> torch.Tensor:
    return output(rack.backbone.transformer)


def by_hand(*parts: tuple[files.AdapterFile, Strength]) -> torch.Tensor:
    """Output of a transformer whose weights were added to."""
    model = models.joint()
    for adapter, strength in parts:
        for name, factors in adapter.modules.items():
            model.module.get_submodule(name).weight.data += strength.at(group(name)) * factors.delta()
    return output(model)


def apart(x: torch.Tensor, y: torch.Tensor) -> float:
    return (x - y).abs().max().item()


def test_disabled_and_unloaded_equal_the_base(rack: AdapterRack, a: files.AdapterFile) -> None:
    base = velocity(rack)
    rack.load(a)
    assert apart(velocity(rack), base) > 0.1
    rack.backbone.transformer.module.disable_lora()
    assert torch.equal(velocity(rack), base)
    rack.backbone.transformer.module.enable_lora()
    assert apart(velocity(rack), base) > 0.1
    rack.unload()
    assert torch.equal(velocity(rack), base)
    assert rack.adapters == {}


def test_fused_equals_unfused_and_comes_apart_again(rack: AdapterRack, a: files.AdapterFile) -> None:
    rack.load(a, 0.7)
    model, before = rack.backbone.transformer.module, velocity(rack)
    model.fuse_lora()
    assert apart(velocity(rack), before) < 1e-4
    model.unfuse_lora()
    assert apart(velocity(rack), before) < 1e-4
    assert apart(before, by_hand((a, Strength.of(0.7)))) < 1e-4


def test_two_adapters_are_a_sum_of_weights(rack: AdapterRack, a: files.AdapterFile, b: files.AdapterFile) -> None:
    rack.load(a, 0.8)
    rack.load(b, -0.4)
    assert apart(velocity(rack), by_hand((a, Strength.of(0.8)), (b, Strength.of(-0.4)))) < 1e-4


@pytest.mark.parametrize("strength", [Strength(1, 0.5, 0.7), Strength(0, 1, 0), Strength(1, 0, 1), Strength(0, 0, 2)])
def test_a_strength_per_stream_is_a_file_with_its_modules_scaled(
    strength: Strength, rack: AdapterRack, a: files.AdapterFile, tmp_path: Path
) -> None:
    """Also no module of "video_to_audio_attn" counts as one of "audio_attn", nor block 1 as block 10."""
    scaled = {n: Factors(f.down_rI, f.up_Or * strength.at(group(n))) for n, f in a.modules.items()}
    rack.load(a, strength)
    found = velocity(rack)
    rack.unload()
    rack.load(save(tmp_path / "scaled.safetensors", scaled))
    assert apart(found, velocity(rack)) < 1e-5
    assert apart(found, by_hand((a, strength))) < 1e-4


def test_the_same_strength_can_be_given_twice(rack: AdapterRack, a: files.AdapterFile) -> None:
    """Strengths are of the file, not of what was set before."""
    name = rack.load(a, Strength(1, 0.5, 0.7))
    once, slot = velocity(rack), rack.adapters[name].slot
    files.set_strengths(rack.backbone.transformer.module, {slot: 0.1})
    files.set_strengths(rack.backbone.transformer.module, {slot: Strength(1, 0.5, 0.7)})
    assert torch.equal(velocity(rack), once)
    with pytest.raises(UsageError, match="no adapter 'dub' is loaded"):
        files.set_strengths(rack.backbone.transformer.module, {"dub": 1.0})


@pytest.mark.parametrize("rank", [None, 5, 2])
def test_a_blend_is_the_weighted_sum_of_changes(rank: int | None, a: files.AdapterFile, b: files.AdapterFile) -> None:
    strengths = Strength(0.8, 0.3, -1), Strength.of(0.4)
    made = blend([(a, strengths[0]), (b, strengths[1])], rank)
    assert set(made.modules) == set(EVERYWHERE)
    missed = size = 0.0
    for name, factors in made.modules.items():
        wanted = sum(
            one.modules[name].delta().double() * s.at(group(name)) for one, s in zip((a, b), strengths, strict=True)
        )
        missed += (factors.delta() - wanted).square().sum().item()
        size += wanted.square().sum().item()
    assert (missed / size) ** 0.5 == pytest.approx(made.error, abs=1e-6)  # what is reported is what is lost
    assert made.metadata.rank == (6 if rank is None else rank)
    assert (made.error > 0.05) if rank == 2 else (made.error < 0.2)
    assert made.error == 0 or rank is not None


def test_blends_keep_what_is_shared_and_refuse_other_rules(tmp_path: Path) -> None:
    factors = random_factors(models.tiny_transformer(), EVERYWHERE[:2])
    one = AdapterMetadata(rules=SequenceRules(), languages=("fr",), fingerprint=FINGERPRINT, steps=7, licence="MIT")
    made = {
        "one": one,
        "other language": replace(one, languages=("de",), steps=8),
        "other rules": replace(one, rules=SequenceRules(reference="isolated")),
        "other base": replace(one, fingerprint="f" * 16),
        "other generation": replace(one, generation="2.3"),
        "2.0": replace(one, generation="2.0"),
    }
    read = {name: save(tmp_path / f"{n}.safetensors", factors, m) for n, (name, m) in enumerate(made.items())}

    def together(first: str, second: str, **kwargs):
        return blend([(read[first], Strength()), (read[second], Strength())], **kwargs).metadata

    both = together("one", "other language")
    assert (both.languages, both.rules, both.steps, both.licence) == (("fr", "de"), SequenceRules(), 0, "MIT")
    with pytest.raises(BadInputError, match="different rules"):
        together("one", "other rules")
    with pytest.raises(BadInputError, match="different backbones"):
        together("one", "other base")
    assert together("one", "other base", any_base=True).fingerprint == ""
    with pytest.raises(BadInputError, match=r"generations 2\.0 and 2\.3"):
        together("2.0", "other generation")


def test_a_wrong_base_is_refused_and_may_be_allowed(rack: AdapterRack, tmp_path: Path) -> None:
    factors = random_factors(models.tiny_transformer(), EVERYWHERE[:2])
    right = save(tmp_path / "right.safetensors", factors, AdapterMetadata(base="tiny", fingerprint=FINGERPRINT))
    wrong = save(tmp_path / "wrong.safetensors", factors, AdapterMetadata(base="19B", fingerprint="f" * 16))
    before = [name for name, _ in rack.backbone.transformer.module.named_parameters()]
    with pytest.raises(BadInputError, match=r"trained on 19B \(ffffffffffffffff\), not on tiny.*--any-base"):
        rack.load(wrong)
    assert [name for name, _ in rack.backbone.transformer.module.named_parameters()] == before
    assert rack.adapters[rack.load(right)].notice == ""
    assert "not on tiny" in rack.adapters[rack.load(wrong, any_base=True)].notice


@pytest.mark.parametrize(("said", "real"), [("2.0", "2.3"), ("2.3", "2.0")])
def test_another_generation_is_refused_whatever_is_allowed(said: str, real: str, tmp_path: Path) -> None:
    factors = random_factors(models.tiny_transformer(), EVERYWHERE[:2])
    adapter = save(tmp_path / "x.safetensors", factors, AdapterMetadata(generation=said))
    assert AdapterRack(Backbone(tmp_path, said)).load(adapter) == "x"
    with pytest.raises(BadInputError, match=f"LTX-{said}.*generation {real}"):
        AdapterRack(Backbone(tmp_path, real)).load(adapter, any_base=True)


def test_rules_that_contradict_are_refused(rack: AdapterRack, tmp_path: Path) -> None:
    factors = random_factors(models.tiny_transformer(), EVERYWHERE[:2])
    isolated = SequenceRules(reference="isolated")
    one = save(tmp_path / "one.safetensors", factors, AdapterMetadata(rules=isolated))
    other = save(tmp_path / "other.safetensors", factors, AdapterMetadata(rules=SequenceRules()))
    unknown = save(tmp_path / "unknown.safetensors", factors)
    assert (rack.load(one), rack.load(unknown), rack.rules) == ("one", "unknown", isolated)
    with pytest.raises(BadInputError, match="other rules"):
        rack.load(other)
    assert rack.swap("one", other) == "other"  # in its place it contradicts nobody
    assert rack.rules == SequenceRules()


def test_names_are_numbered_when_taken(rack: AdapterRack, a: files.AdapterFile) -> None:
    assert [rack.load(a), rack.load(a)] == ["a", "a_2"]
