"""Adapter files: what is read, what is refused, and that a loaded adapter does exactly what it says."""

from __future__ import annotations

import pickle
from pathlib import Path

import models
import pytest
import torch
from safetensors.torch import save_file

from justdub.errors import BadInputError, MissingError
from justdub.lora import files
from justdub.lora.files import Factors
from justdub.lora.metadata import RULES_KEY, AdapterMetadata
from justdub.sequence import SequenceRules

MODULES = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.audio_to_video_attn.to_out.0",
           "transformer_blocks.1.audio_ff.net.2")  # fmt: skip
RULES = SequenceRules(reference="isolated", audio_positions="negative", reference_downscale=2)


def factors(model, names=MODULES, rank: int = 3, seed: int = 0) -> dict[str, Factors]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for index, name in enumerate(names):
        linear = model.get_submodule(name)
        r = rank + index  # ranks may differ inside one file
        made[name] = Factors(
            torch.randn(r, linear.in_features, generator=generator) * 0.1,
            torch.randn(linear.out_features, r, generator=generator) * 0.1,
        )
    return made


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    path = tmp_path / "dub.safetensors"
    files.write(
        path,
        factors(models.tiny_transformer()),
        AdapterMetadata(rules=RULES, languages=("fr", "de")),
        dtype=torch.float32,
    )
    return path


def test_what_is_written_is_read(adapter: Path) -> None:
    read = files.read(adapter)
    assert set(read.modules) == set(MODULES)
    assert (read.rules, read.languages, read.rank) == (RULES, ("fr", "de"), 5)


def test_applied_equals_the_sum_of_weights(adapter: Path) -> None:
    """W x + B A x at strength s: exact against weights that were added by hand."""
    ours, by_hand = models.joint(), models.joint()
    files.apply(ours.module, files.read(adapter), "dub")
    files.set_strengths(ours.module, {"dub": 0.7})
    for name, f in factors(by_hand.module).items():
        by_hand.module.get_submodule(name).weight.data += 0.7 * f.up_Or @ f.down_rI
    plan, text = models.plan(ours), models.text_context()
    one_B = torch.ones(1) * 0.5
    outputs = [m.velocity(plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, one_B, one_B), text)
               for m in (ours, by_hand, models.joint())]  # fmt: skip
    assert (outputs[0].video_BNC - outputs[1].video_BNC).abs().max() < 1e-5
    assert (outputs[0].video_BNC - outputs[2].video_BNC).abs().max() > 1e-3
    assert not any(p.requires_grad for p in ours.module.parameters())


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "transformer.", "base_model.model."])
@pytest.mark.parametrize("suffix", ["", ".default"])
def test_prefixes_of_other_tools(prefix: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    tensors = {}
    for name, f in factors(models.tiny_transformer()).items():
        tensors[f"{prefix}{name}.lora_A{suffix}.weight"] = f.down_rI
        tensors[f"{prefix}{name}.lora_B{suffix}.weight"] = f.up_Or
    save_file(tensors, path)
    read = files.read(path)
    assert set(read.modules) == set(MODULES)
    assert read.rules is None


def test_a_file_without_alpha_is_applied_at_strength_one(adapter: Path) -> None:
    model = models.tiny_transformer()
    files.apply(model, files.read(adapter), "dub")
    for module in MODULES:
        assert model.get_submodule(module).scaling["dub"] == 1.0


def refused(path: Path, match: str, kind: type[Exception] = BadInputError) -> None:
    with pytest.raises(kind, match=match):
        files.apply(models.tiny_transformer(), files.read(path), "x")


def test_refusals(tmp_path: Path) -> None:
    model = models.tiny_transformer()
    (tmp_path / "text.safetensors").write_text("not a tensor")
    refused(tmp_path / "text.safetensors", "cannot be read")
    (tmp_path / "weights.bin").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "weights.bin", "pickle")
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pt")
    refused(tmp_path / "weights.pt", "pickle")
    refused(tmp_path / "none.safetensors", "does not exist", MissingError)
    refused(tmp_path, "is a directory", MissingError)

    save_file({"some.weight": torch.zeros(2, 2)}, tmp_path / "strange.safetensors")
    refused(tmp_path / "strange.safetensors", "no LoRA factors")
    save_file({}, tmp_path / "empty.safetensors")
    refused(tmp_path / "empty.safetensors", "no keys")
    good = factors(model)
    files.write(tmp_path / "nomatch.safetensors", {"blocks.0.q": good[MODULES[0]]}, AdapterMetadata(rules=RULES))
    refused(tmp_path / "nomatch.safetensors", "1 of 1 modules are not in this backbone")
    files.write(tmp_path / "partly.safetensors", good | {"blocks.0.q": good[MODULES[0]]}, AdapterMetadata(rules=RULES))
    refused(tmp_path / "partly.safetensors", "1 of 4 modules")
    wide = {MODULES[0]: Factors(torch.zeros(4, 4096), torch.zeros(4096, 4))}
    files.write(tmp_path / "wide.safetensors", wide, AdapterMetadata(rules=RULES))
    refused(tmp_path / "wide.safetensors", "another width.*4096")
    lone = {f"diffusion_model.{MODULES[0]}.lora_A.weight": torch.zeros(4, 32)}
    save_file(lone, tmp_path / "lone.safetensors")
    refused(tmp_path / "lone.safetensors", "do not pair up")
    truncated = tmp_path / "truncated.safetensors"
    files.write(truncated, good, AdapterMetadata(rules=RULES))
    truncated.write_bytes(truncated.read_bytes()[:-100])
    refused(truncated, "cannot be read")
    both = lone | {f"diffusion_model.{MODULES[0]}.lora_B.weight": torch.zeros(32, 4)}
    save_file(both, tmp_path / "rules.safetensors", metadata={RULES_KEY: '{"gravity": 1}'})
    refused(tmp_path / "rules.safetensors", "gravity")


def test_a_refused_adapter_leaves_the_model_untouched(tmp_path: Path) -> None:
    model = models.tiny_transformer()
    before = [name for name, _ in model.named_parameters()]
    path = tmp_path / "partly.safetensors"
    good = factors(model)
    files.write(path, good | {"blocks.0.q": good[MODULES[0]]}, AdapterMetadata(rules=RULES))
    with pytest.raises(BadInputError):
        files.apply(model, files.read(path), "x")
    assert [name for name, _ in model.named_parameters()] == before
