"""Published adapters by name: stand-ins of their files, in the documented keys and without our metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import models
import official_files
import pytest
import torch
from adapter_files import output, random_factors, save
from safetensors.torch import load_file, save_file

from justdub.backbone import checkpoint
from justdub.backbone.checkpoint import Card
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.settings import DubSettings
from justdub.errors import BadInputError, UsageError
from justdub.examples import __file__ as examples
from justdub.lora import files
from justdub.lora.config import MODULES
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.profiles import PROFILES, downscale_of, give_rules, profile_of
from justdub.lora.rack import AdapterRack
from justdub.sequence import SequenceRules

CLIP = Path(examples).with_name("clip.mp4")
LAYERS = 2
# As published: JUST-DUB-IT writes float32 and nothing in the header, LTX-2's trainer bfloat16 and the scale factors.
HEADERS = {
    "justdubit": None,
    "lipdub": {"reference_downscale_factor": "2", "reference_spatial_scale_factor": "2",
               "reference_temporal_scale_factor": "1"},
}  # fmt: skip


def published(
    path: Path, model, dtype: torch.dtype = torch.float32, header: dict[str, str] | None = None, extra: tuple = ()
) -> Path:
    """A file of the published layout: 28 modules a block, two tensors each, ComfyUI's names, no alpha."""
    names = [f"transformer_blocks.{block}.{module}" for block in range(LAYERS) for module in MODULES]
    tensors = {}
    for name, factors in random_factors(model, [*names, *extra], rank=4).items():
        tensors[f"diffusion_model.{name}.lora_A.weight"] = factors.down_rI.to(dtype)
        tensors[f"diffusion_model.{name}.lora_B.weight"] = factors.up_Or.to(dtype)
    save_file(tensors, path, metadata=header)
    return path


class Backbone:
    """What a rack needs of a backbone."""

    def __init__(self, folder: Path, generation: str) -> None:
        self.transformer = models.joint(generation, layers=LAYERS)
        self.card, self.folder, self.fingerprint = Card(name="tiny"), folder, "00112233aabbccdd"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", PROFILES)
def test_every_key_of_a_published_file_lands(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    profile = profile_of(name)
    backbone = Backbone(tmp_path, profile.generation)
    module = backbone.transformer.module
    path = published(tmp_path / "a.safetensors", module, dtype, HEADERS[name])
    tensors = load_file(path)
    assert len(tensors) == 2 * len(MODULES) * LAYERS
    adapter = files.read(path)
    assert adapter.world == "comfyui" and adapter.rules is None and adapter.metadata == AdapterMetadata()

    before = output(backbone.transformer)
    rack = AdapterRack(backbone)
    rack.load(profile.apply(adapter))
    loaded = {key: value for key, value in module.state_dict().items() if ".lora_" in key}
    assert len(loaded) == len(tensors), "every tensor of the file is a parameter, and there is no other"
    for key, value in loaded.items():
        half = key.replace(".adapter_000000.", ".")
        assert torch.equal(value, tensors[f"diffusion_model.{half}"].float())
    assert (output(backbone.transformer) - before).abs().max() > 1e-2
    assert rack.rules == profile.rules(downscale=2 if name == "lipdub" else 1)


def test_what_the_profiles_say() -> None:
    dubit, lipdub = profile_of("justdubit"), profile_of("lipdub")
    assert dubit.rules() == SequenceRules("target_only", "bidirectional", "shared", 1, True)
    assert lipdub.rules(downscale=2) == SequenceRules("full", "bidirectional", "negative", 2, False)
    settings = DubSettings(**dubit.settings())
    assert (settings.schedule, settings.steps, settings.guidance, settings.audio_guidance) == ("ltx2", 30, 3.0, 3.0)
    settings = DubSettings(**lipdub.settings(two_stage=True))
    assert (settings.schedule, settings.steps, settings.guidance, settings.two_stage) == (
        "distilled", None, 1.0, "lipdub")  # fmt: skip
    assert dubit.refiner and not lipdub.refiner
    for name in PROFILES:
        DubSettings(**profile_of(name).settings(two_stage=True))


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError, match=r"no profile 'lipdup'; expected justdubit, lipdub; try: lipdub"):
        profile_of("lipdup")


def test_a_base_of_the_other_generation_is_refused(tmp_path: Path) -> None:
    """Blocks of 2.0 and 2.3 have the same widths: without the profile nothing would notice."""
    for name, other in (("justdubit", "2.3"), ("lipdub", "2.0")):
        profile = profile_of(name)
        path = published(tmp_path / f"{name}.safetensors", models.tiny_transformer(profile.generation))
        rack = AdapterRack(Backbone(tmp_path, other))
        with pytest.raises(
            BadInputError, match=rf"was trained on LTX-{profile.generation}, the backbone is of .*{other}"
        ):
            rack.load(profile.apply(files.read(path)))


@pytest.mark.parametrize(
    ("generation", "module", "name", "said"),
    [
        ("2.3", "transformer_blocks.0.attn1.to_gate_logits", "justdubit", r"only LTX-2\.3 has.*--profile lipdub"),
        ("2.3", "audio_prompt_adaln.linear", "justdubit", r"only LTX-2\.3 has"),
        ("2.0", "caption_projection.linear_1", "lipdub", r"only LTX-2\.0 has.*--profile justdubit"),
    ],
)
def test_modules_that_prove_another_generation(
    generation: str, module: str, name: str, said: str, tmp_path: Path
) -> None:
    model = models.tiny_transformer(generation)
    path = published(tmp_path / "a.safetensors", model, extra=(module,))
    adapter = files.read(path)
    with pytest.raises(BadInputError, match=said) as error:
        profile_of(name).apply(adapter)
    assert "\n" not in str(error.value)
    given = give_rules(adapter, SequenceRules(), "")
    assert given.metadata.generation == generation, "known from the modules, though nobody said it"


def test_a_file_that_says_itself_how_it_is_run(tmp_path: Path) -> None:
    own = save(tmp_path / "own.safetensors", random_factors(models.tiny_transformer()),
               AdapterMetadata(rules=SequenceRules()))  # fmt: skip
    with pytest.raises(UsageError, match=r"profile 'lipdub' for adapter .* says itself how it is run"):
        profile_of("lipdub").apply(own)


def test_any_other_file_by_explicit_rules(tmp_path: Path) -> None:
    path = published(tmp_path / "a.safetensors", models.tiny_transformer("2.3"), header=HEADERS["lipdub"])
    adapter = files.read(path)
    rules = SequenceRules(cross_modal="full", audio_positions="shared", reference_downscale=downscale_of(adapter))
    rack = AdapterRack(Backbone(tmp_path, "2.3"))
    rack.load(give_rules(adapter, rules))
    assert rack.rules == rules and rules.reference_downscale == 2


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"reference_downscale_factor": "1.5"}, "a whole number"),
        ({"reference_downscale_factor": "0"}, "a whole number"),
        ({"reference_downscale_factor": "half"}, "a whole number"),
        ({"reference_downscale_factor": "2", "reference_spatial_scale_factor": "4"}, "that differ"),
        ({"reference_temporal_scale_factor": "2"}, "as long as the target"),
    ],
)
def test_scale_factors_that_cannot_be_run(header: dict[str, str], said: str, tmp_path: Path) -> None:
    path = published(tmp_path / "a.safetensors", models.tiny_transformer("2.3"), header=header)
    with pytest.raises(BadInputError, match=said):
        profile_of("lipdub").apply(files.read(path))


@pytest.mark.parametrize("name", PROFILES)
def test_a_dub_with_stand_ins_of_all_published_files(name: str, tmp_path: Path) -> None:
    """An official checkpoint, a Gemma folder and the adapter, at tiny size, by the profile alone."""
    profile = profile_of(name)
    made = official_files.write(tmp_path, profile.generation)
    pipe = DubPipeline(checkpoint.load(made.path, text_encoder=made.text_encoder))
    path = published(tmp_path / "a.safetensors", made.modules["transformer"], torch.bfloat16, HEADERS[name])
    pipe.load_adapter(profile.apply(files.read(path)))
    settings = DubSettings(**(profile.settings() | ({"steps": 2} if profile.steps else {})), size=(64, 64))
    dub = pipe(CLIP, language="fr", text="Bonjour.", settings=settings)
    sampling = dub.manifest.content["sampling"]
    assert len(sampling["sigmas"]) == (3 if name == "justdubit" else 9)
    assert pipe.rules == profile.rules(downscale=2 if name == "lipdub" else 1)
    plain = DubPipeline(checkpoint.load(made.path, text_encoder=made.text_encoder), rules=pipe.rules)
    without = plain(CLIP, language="fr", text="Bonjour.", settings=replace(settings))
    assert (dub.frames_FHW3 != without.frames_FHW3).any(), "the adapter changes the dub"
