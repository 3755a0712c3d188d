"""Naming and alpha of other tools: what they wrote is read right, what we write they read right, whatever the alpha."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import models
import pytest
import torch
from adapter_files import deltas, output, random_factors, save
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_ltx2_lora_to_diffusers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from justdub.errors import BadInputError
from justdub.lora import files, formats
from justdub.lora.formats import WORLDS
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules

NAMES = ("transformer_blocks.0.attn1.to_q", "transformer_blocks.1.audio_to_video_attn.to_out.0",
         "transformer_blocks.1.audio_ff.net.0.proj", "proj_in")  # fmt: skip
ALPHAS = (1.0, 7.0, 3.0, 0.3)  # of modules of rank 3, 4, 3, 4: never the rank except once
METADATA = AdapterMetadata(
    rules=SequenceRules(reference="isolated", audio_positions="negative", reference_downscale=2),
    languages=("fr", "de"),
    base="mini",
    generation="2.0",
    fingerprint="0123456789abcdef",
    rank=4,
    alpha=7.0,
    targets=("attn1", "audio_ff"),
    prompt='{speaker} is speaking {language}, saying: "{text}"',
    condition_dropout={"no_text": 0.1, "nothing": 0.05},
    sampling={"audio_guidance": 2.0, "rescale": 0.7},
    steps=2000,
    recipe="f" * 64,
    licence="Apache-2.0",
)


@pytest.fixture(scope="module")
def factors():
    return random_factors(models.tiny_transformer(), NAMES, ranks=2)


@pytest.fixture(scope="module")
def expected(factors):
    """float32 deltas with every module at alpha / rank."""
    return {n: (f.up_Or * (a / f.rank)) @ f.down_rI for (n, f), a in zip(factors.items(), ALPHAS, strict=True)}


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[n], expected[n]) for n in expected)


def kohya(path: Path, factors, flat: bool) -> Path:
    tensors = {}
    for (name, f), alpha in zip(factors.items(), ALPHAS, strict=True):
        official = formats.to_official(name)
        stem = "lora_unet_" + official.replace(".", "_") if flat else f"diffusion_model.{official}"
        tensors |= {f"{stem}.lora_down.weight": f.down_rI, f"{stem}.lora_up.weight": f.up_Or}
        tensors[f"{stem}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def peft_fields(factors) -> dict:
    return {
        "r": 4,
        "lora_alpha": ALPHAS[3],
        "rank_pattern": {name: f.rank for name, f in factors.items() if f.rank != 4},
        "alpha_pattern": dict(zip(NAMES[:3], ALPHAS, strict=False)),
    }


def peft_folder(path: Path, factors, **fields) -> Path:
    LoraConfig(target_modules=list(factors), **{**peft_fields(factors), **fields}).save_pretrained(path)
    tensors = {}
    for name, f in factors.items():
        tensors |= {
            f"base_model.model.{name}.lora_A.weight": f.down_rI,
            f"base_model.model.{name}.lora_B.weight": f.up_Or,
        }
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def diffusers_file(path: Path, factors) -> Path:
    tensors = {}
    for name, f in factors.items():
        tensors |= {f"transformer.{name}.lora_A.weight": f.down_rI, f"transformer.{name}.lora_B.weight": f.up_Or}
    fields = {f"transformer.{key}": value for key, value in peft_fields(factors).items()}
    save_file(tensors, path, metadata={"lora_adapter_metadata": json.dumps(fields)})
    return path


MAKERS = {
    "kohya": lambda p, f: kohya(p / "k.safetensors", f, True),
    "kohya, dotted": lambda p, f: kohya(p / "k.safetensors", f, False),
    "peft": lambda p, f: peft_folder(p / "peft", f),
    "peft, the file in the folder": lambda p, f: peft_folder(p / "peft", f) / "adapter_model.safetensors",
    "diffusers": lambda p, f: diffusers_file(p / "d.safetensors", f),
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("world", WORLDS)
def test_alpha_of_every_world_reaches_every_world(maker: str, world: str, factors, expected, tmp_path: Path) -> None:
    """alpha != rank, another one in every module: the float32 change of weights is bit for bit the same."""
    read = files.read(MAKERS[maker](tmp_path, factors))
    assert same(deltas(read), expected)
    again = save(tmp_path / "converted", read.modules, read.metadata, world=world)
    assert same(deltas(again), expected)
    assert again.world == world


@pytest.mark.parametrize(("first", "second"), list(permutations(WORLDS, 2)))
def test_there_and_back(first: str, second: str, factors, tmp_path: Path) -> None:
    one = save(tmp_path / "one", factors, METADATA, world=first)
    two = save(tmp_path / "two", one.modules, one.metadata, world=second)
    back = save(tmp_path / "back", two.modules, two.metadata, world=first)
    assert one.metadata == two.metadata == back.metadata == METADATA
    assert same(deltas(back), {name: f.delta() for name, f in factors.items()})
    assert back.header["reference_downscale_factor"] == "2"


def test_rslora_divides_by_the_root(factors, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "rs", factors, use_rslora=True)
    model = models.tiny_transformer()
    ours = deltas(files.read(folder))
    theirs = PeftModel.from_pretrained(model, folder).base_model.model
    for name in factors:
        assert torch.allclose(ours[name], theirs.get_submodule(name).get_delta_weight("default"), rtol=1e-6, atol=1e-7)


def test_peft_reads_what_we_write(factors, expected, tmp_path: Path) -> None:
    read = files.read(MAKERS["kohya"](tmp_path, factors))
    save(tmp_path / "folder", read.modules, METADATA, world="peft")
    model = PeftModel.from_pretrained(models.tiny_transformer(), tmp_path / "folder")
    for name in factors:
        layer = model.base_model.model.get_submodule(name)
        assert torch.equal(layer.get_delta_weight("default"), expected[name])
    assert model.peft_config["default"].base_model_name_or_path == "mini"


def test_what_peft_writes_is_read(tmp_path: Path) -> None:
    """A whole model of peft's own making: alpha 8, rank 4, rank 2 in the feed-forward."""
    model = get_peft_model(
        models.tiny_transformer(),
        LoraConfig(r=4, lora_alpha=8, target_modules=["attn1.to_q", "ff.net.2"], rank_pattern={"ff.net.2": 2},
                   init_lora_weights=False),
    )  # fmt: skip
    model.save_pretrained(tmp_path / "peft")
    read = files.read(tmp_path / "peft")
    assert len(read.modules) == 4
    for name, delta in deltas(read).items():
        assert torch.equal(delta, model.base_model.model.get_submodule(name).get_delta_weight("default"))


@pytest.mark.parametrize("world", ["diffusers", "comfyui"])
def test_diffusers_reads_what_we_write(world: str, factors, tmp_path: Path) -> None:
    """Its own loader and, for ComfyUI's names, its own converter: the output is that of our loader."""
    read = files.read(MAKERS["kohya"](tmp_path, factors))
    path = tmp_path / "ours.safetensors"
    save(path, read.modules, METADATA, world=world)
    ours, theirs, base = models.joint(), models.joint(), models.joint()
    files.apply(ours.module, read, "dub")
    if world == "diffusers":
        theirs.module.load_lora_adapter(path, prefix="transformer", use_safetensors=True)
    else:
        state = _convert_non_diffusers_ltx2_lora_to_diffusers(load_file(path))
        theirs.module.load_lora_adapter(state, prefix="transformer")
    assert (output(ours) - output(theirs)).abs().max() < 1e-5
    assert (output(ours) - output(base)).abs().max() > 1e-2


@pytest.mark.parametrize("generation", ["2.0", "2.3"])
def test_names_of_every_linear_module(generation: str, tmp_path: Path) -> None:
    """Official names as diffusers' converter has them; kohya's flat names back to the same modules."""
    model = models.tiny_transformer(generation, layers=11)  # a block with a number of two digits
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    keys = {f"diffusion_model.{formats.to_official(name)}.lora_A.weight": torch.zeros(1) for name in names}
    assert list(_convert_non_diffusers_ltx2_lora_to_diffusers(keys)) == [
        f"transformer.{n}.lora_A.weight" for n in names
    ]
    some = random_factors(model, names, rank=1)
    for world in WORLDS:
        assert set(save(tmp_path / world, some, world=world).modules) == set(names)


@pytest.mark.parametrize(
    ("key", "method"),
    [
        ("diffusion_model.transformer_blocks.0.attn1.to_q.lora_magnitude_vector", "DoRA"),
        ("lora_unet_transformer_blocks_0_attn1_to_q.dora_scale", "DoRA"),
        ("lora_unet_transformer_blocks_0_attn1_to_q.hada_w1_a", "LoHa"),
        ("transformer.transformer_blocks.0.attn1.to_q.lokr_w1", "LoKr"),
        ("base_model.model.transformer_blocks.0.attn1.to_q.vera_lambda_b", "VeRA"),
        ("diffusion_model.transformer_blocks.0.attn1.to_q.diff", "full differences"),
        ("diffusion_model.transformer_blocks.0.attn1.to_q.lora_B.bias", "LoRA with biases"),
    ],
)
def test_other_methods_are_refused_by_name(key: str, method: str, factors, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(formats.encode(factors, "comfyui") | {key: torch.ones(4)}, path)
    with pytest.raises(BadInputError, match=method):
        files.read(path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "LOHA"}, "is LOHA"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["proj_in"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
        ({"r": 5}, "its config says 5"),
        ({"lora_alpha": "much"}, "makes no sense"),
        ({"lora_alpha": float("inf")}, "not a finite number"),
    ],
)
def test_configs_that_are_no_plain_lora(fields: dict, said: str, factors, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "peft", factors)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | fields))
    with pytest.raises(BadInputError, match=said):
        files.read(folder)


def test_flat_names_of_other_models_and_lone_alphas_are_refused(factors, tmp_path: Path) -> None:
    path = tmp_path / "k.safetensors"
    good = formats.encode(factors, "kohya")
    flux = {f"lora_unet_double_blocks_0_img_attn_qkv.lora_{half}.weight": torch.ones(2, 2) for half in ("down", "up")}
    save_file(good | flux, path)
    with pytest.raises(BadInputError, match="names no linear module of LTX-2"):
        files.read(path)
    save_file(good | {"lora_unet_transformer_blocks_0_attn2_to_k.alpha": torch.tensor(1.0)}, path)
    with pytest.raises(BadInputError, match="an alpha but no factors"):
        files.read(path)


def test_the_first_format_still_loads() -> None:
    """A file that was written when rules and languages were all that a header had."""
    read = files.read(Path(__file__).parent / "formats" / "format_1.safetensors")
    rules = SequenceRules(reference="isolated", audio_positions="negative", reference_downscale=2)
    assert read.header["justdub.format"] == "1"
    assert read.metadata == AdapterMetadata(rules=rules, languages=("fr", "de"))
    assert {name: f.rank for name, f in read.modules.items()} == {
        "transformer_blocks.0.attn1.to_q": 2, "transformer_blocks.1.audio_ff.net.2": 3}  # fmt: skip
    assert read.modules["transformer_blocks.0.attn1.to_q"].down_rI.float().norm().item() == pytest.approx(
        0.765, abs=0.2
    )
    files.apply(models.tiny_transformer(), read, "old")


@pytest.mark.parametrize("key", ["justdub.format", "justdub.rules", "justdub.steps", "justdub.alpha",
                                 "justdub.generation", "justdub.condition_dropout"])  # fmt: skip
def test_headers_of_tomorrow_are_refused(key: str, factors, tmp_path: Path) -> None:
    header = METADATA.to_strings() | {key: "[7,"}
    save_file(formats.encode(factors, "comfyui"), tmp_path / "new.safetensors", metadata=header)
    with pytest.raises(BadInputError, match="newer justdub"):
        files.read(tmp_path / "new.safetensors")


def test_a_header_whose_length_looks_like_a_pickle(factors, tmp_path: Path) -> None:
    """safetensors begin with the length of their header; 0x0480 is how a pickle of protocol 4 begins."""
    path, tensors = tmp_path / "a.safetensors", formats.encode(dict(list(factors.items())[:1]), "comfyui")
    for filler in range(0, 2000, 8):
        save_file(tensors, path, metadata={"filler": "x" * filler})
        if path.read_bytes()[:2] == b"\x80\x04":
            break
    assert len(files.read(path).modules) == 1
