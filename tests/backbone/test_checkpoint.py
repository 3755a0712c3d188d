"""Finding and loading backbones; what is wrong with a folder is said in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import models
import pytest
import torch
from safetensors.torch import load_file, save_file

from justdub.backbone import checkpoint, untrained
from justdub.backbone.checkpoint import Card
from justdub.errors import BadInputError, MissingError, UsageError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(models.mini_folder(), tmp_path / "copy"))


def test_the_bundled_backbone_loads_frozen() -> None:
    backbone = checkpoint.load()
    assert backbone.card.size == (96, 96)
    modules = [getattr(backbone.pipeline, c) for c in ("transformer", "vae", "audio_vae", "vocoder", "connectors")]
    assert not any(p.requires_grad for m in modules for p in m.parameters())
    assert not any(m.training for m in modules)
    assert backbone.card.round_trip_db > 0, "a small backbone must know what is foreign to it"


def test_a_folder_without_a_card_gets_the_defaults_of_the_family(copy: Path) -> None:
    (copy / "justdub.json").unlink()
    backbone = checkpoint.load(copy)
    assert backbone.card == Card(name="copy")


def test_fingerprint_follows_the_weights_and_not_the_card(copy: Path) -> None:
    before = checkpoint.fingerprint(copy)
    assert before == checkpoint.fingerprint(models.mini_folder())
    (copy / "justdub.json").write_text("{}")
    assert checkpoint.fingerprint(copy) == before
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    blob = bytearray(weights.read_bytes())
    blob[len(blob) // 3] ^= 1
    weights.write_bytes(blob)
    assert checkpoint.fingerprint(copy) != before


def test_missing_and_broken_folders(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no backbone at"):
        checkpoint.load(tmp_path / "nowhere")
    with pytest.raises(MissingError, match="hf download"):
        checkpoint.load("Lightricks/LTX-2")
    (tmp_path / "file.safetensors").write_bytes(b"")
    with pytest.raises(BadInputError, match="cannot be read"):
        checkpoint.load(tmp_path / "file.safetensors")
    with pytest.raises(MissingError, match="check the path"):
        checkpoint.load("folder/file.safetensors")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(BadInputError, match="a file of another kind"):
        checkpoint.load(tmp_path / "notes.txt")
    with pytest.raises(BadInputError, match=r"no model_index\.json.*one of its files: file\.safetensors"):
        checkpoint.load(tmp_path)
    shutil.rmtree(copy / "vocoder")
    with pytest.raises(MissingError, match="has no vocoder"):
        checkpoint.load(copy)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_a_truncated_weight_file(copy: Path, part: str) -> None:
    (weights,) = (copy / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises((BadInputError, MissingError)) as caught:
        checkpoint.load(copy)
    assert "\n" not in str(caught.value)


def test_a_missing_shard(copy: Path) -> None:
    (weights,) = (copy / "transformer").glob("*.safetensors")
    tensors = list(load_file(weights).items())
    names = [f"diffusion_pytorch_model-0000{part + 1}-of-00002.safetensors" for part in range(2)]
    for part, name in enumerate(names):
        save_file(dict(tensors[part::2]), copy / "transformer" / name, metadata={"format": "pt"})
    weights.unlink()
    index = {"weight_map": {key: names[number % 2] for number, (key, _) in enumerate(tensors)}, "metadata": {}}
    listing = copy / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    listing.write_text(json.dumps(index))
    assert len(checkpoint.load(copy).pipeline.transformer.state_dict()) == len(tensors)
    (copy / "transformer" / names[1]).unlink()
    with pytest.raises(MissingError, match=r"lacks 1 of 2 shards \(diffusion_pytorch_model-00002"):
        checkpoint.load(copy)


def test_a_hub_id_in_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--ltx-2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    with pytest.raises(MissingError, match="hf download someone/ltx-2"):
        checkpoint.find("someone/ltx-2")
    shutil.copytree(models.mini_folder(), repository / "snapshots" / "0123abc")
    assert checkpoint.load("someone/ltx-2").folder == repository / "snapshots" / "0123abc"


@pytest.mark.parametrize("name", ["ltx.ckpt", "ltx.pt", "ltx.bin"])
def test_pickled_files_are_refused(name: str, tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(BadInputError, match="is a pickle, which could run code"):
        checkpoint.load(tmp_path / name)
    disguised = (tmp_path / name).rename(tmp_path / "ltx.safetensors")
    with pytest.raises(BadInputError, match="cannot be read"):
        checkpoint.load(disguised, text_encoder=tmp_path)


def test_a_text_encoder_of_another_width_in_a_folder(copy: Path) -> None:
    text = copy / "text_encoder"
    shutil.rmtree(text)
    untrained.text_encoder(untrained.Size(text_width=48)).save_pretrained(text)
    with pytest.raises(BadInputError, match=r"states of width 48.*parts of one checkpoint"):
        checkpoint.load(copy)


def test_pickled_weights_are_not_opened(copy: Path) -> None:
    (weights,) = (copy / "vae").glob("*.safetensors")
    weights.unlink()
    torch.save({"x": torch.zeros(1)}, copy / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises((BadInputError, MissingError)):
        checkpoint.load(copy)


def test_a_card_with_a_typo(copy: Path) -> None:
    (copy / "justdub.json").write_text(json.dumps({"nmae": "x"}))
    with pytest.raises(BadInputError, match="unknown key 'nmae'"):
        checkpoint.load(copy)
    (copy / "justdub.json").write_text("{")
    with pytest.raises(BadInputError, match="not JSON"):
        checkpoint.load(copy)


def test_devices_and_dtypes() -> None:
    assert checkpoint.choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert checkpoint.choose_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    with pytest.raises(UsageError):
        checkpoint.choose_dtype("int3", torch.device("cpu"))
    assert checkpoint.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(MissingError):
        checkpoint.choose_device("warp")
    if not torch.cuda.is_available():
        with pytest.raises(MissingError):
            checkpoint.choose_device("cuda")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("vae", "temporal_compression_ratio", 2), ("transformer", "vae_scale_factors", [8, 16, 16])],
)
def test_parts_of_different_checkpoints(copy: Path, part: str, key: str, value: object) -> None:
    """A wrong ratio would give every token a wrong position, and nothing else would notice."""
    path = copy / part / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {key: value}))
    with pytest.raises(BadInputError, match="parts of one checkpoint"):
        checkpoint.load(copy)
