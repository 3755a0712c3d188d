"""Merging into a checkpoint folder: the new weights are W + strength * B A, everything else is what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from adapter_files import random_factors, save
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from safetensors.torch import load_file

from justdub.backbone import checkpoint, untrained
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.lora.config import group
from justdub.lora.files import AdapterFile
from justdub.lora.merge import merge, read_record
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.reference import Strength
from justdub.sequence import SequenceRules

RULES = SequenceRules(reference="isolated")
STRENGTHS = Strength(0.8, 0.5, -1), Strength.of(0.3)
MODULES = ("attn1.to_q", "audio_ff.net.2", "video_to_audio_attn.to_out.0")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge") / "base"
    untrained.write(folder, untrained.CARD, size=untrained.Size(layers=2))
    (folder / "README.md").write_text("# The base\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def parts(base: Path) -> list[tuple[AdapterFile, Strength]]:
    model = LTX2VideoTransformer3DModel.from_pretrained(base / "transformer")
    names = [f"transformer_blocks.{block}.{module}" for block in range(2) for module in MODULES]
    said = AdapterMetadata(
        rules=RULES, base="untrained", fingerprint=checkpoint.fingerprint(base), generation="2.0", licence="MIT"
    )
    one = save(base.parent / "one.safetensors", random_factors(model, names, scale=0.05), said)
    two = save(base.parent / "two.safetensors", random_factors(model, names[1:], seed=1, scale=0.05), said)
    return list(zip((one, two), STRENGTHS, strict=True))


def transformer(folder: Path) -> dict[str, torch.Tensor]:
    return {key: t for file in (folder / "transformer").glob("*.safetensors") for key, t in load_file(file).items()}


@pytest.mark.parametrize("dtype", [torch.float32, None])
def test_merged_weights_are_those_of_the_adapters_at_their_strengths(
    dtype: torch.dtype | None, base: Path, parts: list[tuple[AdapterFile, Strength]], tmp_path: Path
) -> None:
    report = merge(base, parts, tmp_path / "merged", dtype=dtype)
    before, after = transformer(base), transformer(tmp_path / "merged")
    assert before.keys() == after.keys()
    touched, lost, whole = 0, 0.0, 0.0
    for key, weight in before.items():
        module = key.removesuffix(".weight") if key.endswith(".weight") else ""
        changes = [s.at(group(key)) * a.modules[module].delta() for a, s in parts if module in a.modules]
        exact = weight.float() + sum(changes)
        assert after[key].dtype == (dtype or weight.dtype)
        assert torch.allclose(after[key].float(), exact, atol=1e-6, rtol=0 if dtype else 2**-8)
        touched += bool(changes)
        lost += (after[key].float() - exact).square().sum().item()
        whole += sum(changes).square().sum().item() if changes else 0.0
    assert touched == report.modules == 6
    assert report.lost == pytest.approx((lost / whole) ** 0.5, abs=1e-5)
    assert (report.lost > 1e-3) == (dtype is None)  # bfloat16 rounds, and the report says by how much


def test_the_folder_is_complete_and_says_what_it_is(
    base: Path, parts: list[tuple[AdapterFile, Strength]], tmp_path: Path
) -> None:
    output = tmp_path / "merged"
    merge(base, parts[:1], output)

    def files(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    before, after = files(base), files(output)
    assert after.keys() - before.keys() == {"merged.json"}
    changed = {name for name in before if before[name] != after[name]}
    assert {name.split("/")[0] for name in changed} == {"transformer", "justdub.json", "README.md"}
    assert "`one` at strength video=0.8,audio=0.5,cross=-1" in after["README.md"].decode()
    backbone = checkpoint.load(output)  # a checkpoint like any other
    assert backbone.card.name == "untrained + one:video=0.8,audio=0.5,cross=-1"
    assert backbone.card.licence == "Apache-2.0; MIT"
    assert backbone.card.steps == json.loads(before["justdub.json"])["steps"]
    (record,) = read_record(output)
    assert (record.name, record.rules) == ("one", RULES)
    with pytest.raises(BadInputError, match="was trained on untrained"):  # another base now, for its own adapters too
        merge(output, parts[1:], tmp_path / "again")
    report = merge(output, parts[1:], tmp_path / "again", any_base=True)
    assert len(report.notices) == 1
    assert [one.name for one in read_record(tmp_path / "again")] == ["one", "two"]


def test_what_cannot_be_merged_leaves_nothing(
    base: Path, parts: list[tuple[AdapterFile, Strength]], tmp_path: Path
) -> None:
    other = save(tmp_path / "other.safetensors", parts[0][0].modules, AdapterMetadata(rules=SequenceRules()))
    newer = save(tmp_path / "newer.safetensors", parts[0][0].modules, AdapterMetadata(generation="2.3"))
    inputs = set(tmp_path.iterdir())
    with pytest.raises(BadInputError, match="different rules"):
        merge(base, [*parts, (other, Strength())], tmp_path / "merged")
    with pytest.raises(BadInputError, match=r"LTX-2\.3"):
        merge(base, [(newer, Strength())], tmp_path / "merged")
    with pytest.raises(UsageError, match="exists already"):
        merge(base, parts, base)
    with pytest.raises(UsageError, match="is one file"):
        merge(other.path, parts, tmp_path / "merged")
    assert set(tmp_path.iterdir()) == inputs


def test_room_is_asked_for_before_anything_is_written(
    base: Path, parts: list[tuple[AdapterFile, Strength]], tmp_path: Path
) -> None:
    large = tmp_path / "large"
    shutil.copytree(base, large)
    with (large / "hole.bin").open("wb") as file:
        file.truncate(1 << 43)  # 8 TiB that take no room themselves
    if shutil.disk_usage(tmp_path).free > 1 << 43:
        pytest.skip("needs a disk with less than 8 TiB free")
    with pytest.raises(MissingError, match=r"no room .* GiB are free.*8192\.. GiB"):
        merge(large, parts, tmp_path / "merged", any_base=True)
    assert [one.name for one in tmp_path.iterdir()] == ["large"]
