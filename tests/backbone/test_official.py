"""Official single files: every part comes back exactly, from the file's own memory, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import models
import official_files
import pytest
import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from official_files import Written
from safetensors import safe_open

from justdub.backbone import checkpoint
from justdub.backbone.official import OfficialFile, load_transformer
from justdub.backbone.official.audio import audio_vae_arguments, vocoder_arguments
from justdub.backbone.official.connectors import connector_arguments
from justdub.backbone.official.file import empty
from justdub.backbone.official.generation import detect
from justdub.backbone.official.transformer import transformer_arguments
from justdub.backbone.official.video_vae import video_vae_arguments
from justdub.dubbing.pipeline import DubPipeline
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.examples import __file__ as examples

CLIP = Path(examples).with_name("clip.mp4")
PARTS = ("transformer", "connectors", "vae", "audio_vae", "vocoder")


@pytest.fixture(scope="module", params=["2.0", "2.3"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return official_files.write(tmp_path_factory.mktemp("official"), request.param)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return official_files.write(tmp_path_factory.mktemp("old"), "2.0")


@pytest.fixture(scope="module")
def loaded(written: Written) -> checkpoint.Backbone:
    return checkpoint.load(written.path, text_encoder=written.text_encoder)


# -- what comes back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_every_part_comes_back_exactly(part: str, written: Written, loaded: checkpoint.Backbone) -> None:
    ours, theirs = getattr(loaded.pipeline, part), written.modules[part]
    assert type(ours) is type(theirs)
    different = {
        key: (ours.config[key], value)
        for key, value in theirs.config.items()
        if not key.startswith("_") and not same(ours.config[key], value)
    }
    assert not different
    state = theirs.state_dict()
    assert ours.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in ours.state_dict().items())
    # Buffers that no file holds (the resampler of the vocoder) are computed, not left empty.
    buffers = dict(theirs.named_buffers())
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in ours.named_buffers())


def same(one: object, other: object) -> bool:
    return list(one) == list(other) if isinstance(other, (list, tuple)) else one == other


def test_a_dub_of_the_bundled_clip(loaded: checkpoint.Backbone) -> None:
    dub = DubPipeline(loaded)(
        CLIP, language="fr", text="Bonjour.", steps=2, size=(96, 96), guidance=1.0, audio_guidance=1.0
    )
    assert dub.frames_FHW3.shape[1:] == (96, 96, 3) and len(dub.frames_FHW3) == dub.source.info.video.frames
    assert dub.audio_rate == (16000 if loaded.transformer.cross_timestep is False else 48000)
    assert dub.frames_FHW3.std() > 0 and dub.audio_CS.std() > 0


def test_the_generation_and_its_defaults(written: Written, loaded: checkpoint.Backbone) -> None:
    assert detect(OfficialFile.open(written.path)) == written.generation
    assert loaded.card.name == "ltx-2"
    assert loaded.card.stg_blocks == {"2.0": (29,), "2.3": (28,)}[written.generation]
    assert loaded.text.max_tokens == 1024, "the tokenizer of Gemma names no limit"
    assert loaded.transformer.cross_timestep == (written.generation == "2.3")


def test_weights_stay_in_the_memory_map_of_the_file(tmp_path: Path) -> None:
    """No parameter of the file's own type is copied into memory."""
    made = official_files.write(tmp_path, "2.3", dtype=torch.bfloat16)
    pipeline = checkpoint.load(made.path, text_encoder=made.text_encoder, dtype=torch.bfloat16).pipeline
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(made.path) in line]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in maps]
    for part in ("transformer", "connectors", "vae"):
        for name, parameter in getattr(pipeline, part).named_parameters():
            address = parameter.data_ptr()
            assert any(start <= address < end for start, end in ranges), f"{part}.{name} is a copy"
    assert next(pipeline.vocoder.parameters()).dtype == torch.float32


def test_a_file_of_2_5_with_all_parts(tmp_path: Path) -> None:
    """The transformer of LTX-2.5 is one that diffusers has; its text encoder is another family."""
    made = official_files.write(tmp_path, "2.5")
    module = load_transformer(made.path)
    assert all(torch.equal(t, made.modules["transformer"].state_dict()[k]) for k, t in module.state_dict().items())
    assert detect(OfficialFile.open(made.path)) == "2.5"
    with pytest.raises(BadInputError, match=r"gemma3; expected the Gemma 4 12B"):
        checkpoint.load(made.path, text_encoder=made.text_encoder)


def runs(*layers: int) -> list:
    return [["res_x", {"num_layers": count}] for count in layers]


def between(blocks: list, *resampling: tuple) -> list:
    """Resampling blocks between runs of residual ones."""
    found = [block for pair in zip(blocks, map(list, resampling), strict=False) for block in pair]
    return [*found, blocks[-1]]


def at_real_size(generation: str) -> OfficialFile:
    """The header of a published file, as far as its codecs go: no weights."""
    two, one, new = {"multiplier": 2}, {"multiplier": 1}, generation == "2.3"
    down = (("compress_space_res", two), ("compress_time_res", two), ("compress_all_res", two),
            ("compress_all_res", one if new else two))  # fmt: skip
    vae = {"_class_name": "CausalVideoAutoencoder", "latent_channels": 128, "patch_size": 4, "causal_decoder": False,
           "encoder_base_channels": 128, "decoder_base_channels": 128}  # fmt: skip
    if new:
        up = (("compress_space", two), ("compress_time", two), ("compress_all", one), ("compress_all", two))
        vae |= {"spatial_padding_mode": "zeros", "decoder_blocks": between(runs(4, 6, 4, 2, 2), *up)}
        vae["encoder_blocks"] = between(runs(4, 6, 4, 2, 2), *down)
    else:
        vae["decoder_blocks"] = between(runs(5, 5, 5, 5), *[("compress_all", two | {"residual": True})] * 3)
        vae["encoder_blocks"] = between(runs(4, 6, 6, 2, 2), *down)
    kernels = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3}
    first = {"upsample_initial_channel": 1536, "upsample_rates": [5, 2, 2, 2, 2, 2],
             "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4]} | kernels | official_files.PERIODIC  # fmt: skip
    second = {"upsample_initial_channel": 512, "upsample_rates": [6, 5, 2, 2, 2],
              "upsample_kernel_sizes": [12, 11, 4, 4, 4]} | kernels | official_files.PERIODIC  # fmt: skip
    extension = {key: value for key, value in official_files.EXTENSION.items() if not key.startswith("upsample")}
    plain = {"upsample_initial_channel": 1024, "upsample_rates": [6, 5, 2, 2, 2],
             "upsample_kernel_sizes": [16, 15, 8, 4, 4], "resblock": "1"} | kernels  # fmt: skip
    audio = {"ch": 128, "ch_mult": [1, 2, 4], "num_res_blocks": 2, "z_channels": 8, "resolution": 256, "mel_bins": 64}
    config = {
        "vae": vae,
        "audio_vae": {"model": {"params": {"ddconfig": audio, "sampling_rate": 16000}}},
        "vocoder": {"vocoder": first, "bwe": second | extension} if new else plain,
    }
    prefixes = ("vocoder.vocoder.", "vocoder.bwe_generator.") if new else ("vocoder.",)
    shapes = {f"{p}{key}.weight": (2, 128, 7) for p in prefixes for key in ("conv_pre", "conv_post")}
    return OfficialFile(Path("real.safetensors"), config, f"{generation}.0", "", shapes)


@pytest.mark.parametrize(
    ("generation", "video", "sound", "spoken", "rate"),
    [("2.0", 1_222, 53, 56, 24000), ("2.3", 726, 53, 129, 48000)],
)
def test_the_codecs_at_their_real_size(generation: str, video: int, sound: int, spoken: int, rate: int) -> None:
    """The published configs describe modules with the published numbers of parameters, in millions."""
    file = at_real_size(generation)

    def millions(kind, arguments) -> float:
        module = empty(kind, **arguments)
        return round(sum(tensor.numel() for tensor in module.state_dict().values()) / 1e6)

    arguments = vocoder_arguments(file)
    assert millions(AutoencoderKLLTX2Video, video_vae_arguments(file)) == video
    assert millions(AutoencoderKLLTX2Audio, audio_vae_arguments(file)) == sound
    assert millions(LTX2Vocoder if generation == "2.0" else LTX2VocoderWithBWE, arguments) == spoken
    assert arguments["output_sampling_rate"] == rate
    ratios = [video_vae_arguments(file)[f"{kind}_compression_ratio"] for kind in ("temporal", "spatial")]
    assert ratios == [8, 32]


REAL_TRANSFORMER = official_files.TRANSFORMER_CONFIG | {
    "num_attention_heads": 32, "attention_head_dim": 128, "in_channels": 128, "out_channels": 128, "num_layers": 48,
    "cross_attention_dim": 4096, "caption_channels": 3840, "audio_num_attention_heads": 32,
    "audio_attention_head_dim": 64, "audio_out_channels": 128, "audio_cross_attention_dim": 2048,
    "connector_attention_head_dim": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("generation", "millions", "connectors"),
    [("2.0", 18_876, 1_431), ("2.3", 18_989, 3_172), ("2.5", 18_988, 3_172)],
)
def test_the_transformer_at_its_real_size(generation: str, millions: int, connectors: int) -> None:
    """As above, for the transformer and the text connectors."""
    prefix, old = official_files.TRANSFORMER, generation == "2.0"
    config = official_files.TRANSFORMER_CONFIGS[generation] | REAL_TRANSFORMER
    config["audio_connector_attention_head_dim"] = 128 if old else 64
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}audio_patchify_proj.weight": (2048, 128)}
    projection = "text_embedding_projection."
    if old:
        shapes |= {f"{prefix}caption_projection.linear_1.weight": (4096, 3840)}
        shapes |= {f"{projection}aggregate_embed.weight": (3840, 188_160)}
    for stream, width in (("video", 3840 if old else 4096), ("audio", 3840 if old else 2048)):
        shapes[f"{prefix}{stream}_embeddings_connector.learnable_registers"] = (128, width)
        for block in range(2 if old else 8):
            layer = f"{prefix}{stream}_embeddings_connector.transformer_1d_blocks.{block}.attn1"
            shapes[f"{layer}.to_q.weight"] = (width, width)
            shapes |= {} if old else {f"{layer}.to_gate_logits.weight": (32, width)}
        if not old:
            shapes[f"{projection}{stream}_aggregate_embed.weight"] = (width, 188_160)
            shapes[f"{projection}{stream}_aggregate_embed.bias"] = (width,)
    file = OfficialFile(Path("real.safetensors"), {"transformer": config}, "", "", shapes)
    for kind, arguments, expected in (
        (LTX2VideoTransformer3DModel, transformer_arguments(file), millions),
        (LTX2TextConnectors, connector_arguments(file), connectors),
    ):
        assert round(sum(p.numel() for p in empty(kind, **arguments).parameters()) / 1e6) == expected


def test_fingerprints_follow_the_file_and_the_text_encoder(old: Written, tmp_path: Path) -> None:
    first = checkpoint.fingerprint(old.path)
    tensors = dict(old.tensors)
    key = next(key for key in tensors if key.endswith("to_q.weight"))
    tensors[key] = tensors[key] + 1
    assert checkpoint.fingerprint(old.rewrite(tmp_path / "other.safetensors", tensors=tensors)) != first
    assert checkpoint.fingerprint(old.path, text_encoder=old.text_encoder) != first


def test_the_golden_file_is_read_as_before() -> None:
    (path,) = (Path(__file__).parents[1] / "golden").glob("tiny_transformer*.safetensors")
    module = load_transformer(path)
    with safe_open(path, framework="pt") as file:
        keys = list(file.keys())
    assert len(module.state_dict()) == len(keys)
    assert not module.config.cross_attn_mod and module.config.use_prompt_embeddings


# -- what is wrong with a file -----------------------------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def changed(metadata: dict[str, str], section: str, **values: object) -> dict[str, str]:
    config = json.loads(metadata["config"])
    config[section] = None if values.get("gone") else config[section] | values
    return metadata | {"config": json.dumps(config)}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        (lambda m: {"model_version": "2.0.0"}, "no transformer config"),
        (lambda m: m | {"config": "{"}, "is not JSON"),
        (lambda m: m | {"config": "[]"}, "no JSON object"),
        (lambda m: changed(m, "vae", gone=True), "no vae config"),
        (lambda m: changed(m, "vae", _class_name="CausalDiffusionVAE"), "diffusion decoder"),
        (lambda m: changed(m, "vae", encoder_blocks=[["attn_res_x", {"num_layers": 1}]]), "'attn_res_x'"),
        (lambda m: changed(m, "vae", decoder_blocks=None), "no decoder_blocks"),
        (lambda m: changed(m, "audio_vae", model={}), r"no model\.params\.ddconfig"),
        (lambda m: changed(m, "audio_vae", preprocessing={"stft": {"filter_length": 512}}), "512 samples"),
        (lambda m: changed(m, "transformer", num_layers=3), r"transformer has \d+ keys missing, 0 unknown"),
        (lambda m: changed(m, "transformer", apply_gated_attention=True), "keys missing"),
        (lambda m: changed(m, "transformer", caption_channels=31), "no multiple of caption_channels 31"),
        (lambda m: m | {"model_version": "2.3.0"}, r"2\.3\.0, its keys are those of LTX-2\.0"),
    ],
)
def test_metadata_that_does_not_describe_the_file(metadata, said: str, old: Written, tmp_path: Path) -> None:
    path = old.rewrite(tmp_path / "x.safetensors", metadata=metadata(old.metadata))
    with pytest.raises(BadInputError, match=said) as error:
        checkpoint.load(path, text_encoder=old.text_encoder)
    assert str(path) in one_line(error)


def without(prefix: str):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (without("vae."), r"holds no vae;.*pack of several files"),
        (without("text_embedding_projection."), "has no text_embedding_projection"),
        (without("model.diffusion_model.audio_embeddings_connector."), "no audio text connector"),
        (without("vocoder.conv_post.bias"), r"vocoder has 1 keys missing.*\(conv_out\.bias\)"),
        (lambda t: t | {"model.diffusion_model.one_more": torch.ones(1)}, r"0 keys missing, 1 unknown.*\(one_more\)"),
        (lambda t: t | {"duration_head.weight": torch.ones(1)}, r"1 keys belong to no part \(duration_head\.weight\)"),
        (lambda t: t | {"audio_vae.encoder.conv_in.conv.bias": torch.ones(3)}, "1 of another shape"),
        (lambda t: t | {"vae.encoder.conv_in.conv.weight_scale": torch.ones(1)}, "quantised"),
        (
            lambda t: {k: v.to(torch.float8_e4m3fn) if k.endswith("to_q.weight") else v for k, v in t.items()},
            r"quantised weights: \d+ tensors such as .*to_q\.weight \(F8_E4M3\)",
        ),
    ],
)
def test_keys_that_are_not_those_of_the_layout(tensors, said: str, old: Written, tmp_path: Path) -> None:
    path = old.rewrite(tmp_path / "x.safetensors", tensors=tensors(old.tensors))
    with pytest.raises(BadInputError, match=said) as error:
        checkpoint.load(path, text_encoder=old.text_encoder)
    one_line(error)


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_a_truncated_file(share: float, old: Written, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    blob = old.path.read_bytes()
    path.write_bytes(blob[: int(len(blob) * share)])
    with pytest.raises(BadInputError, match="download it again") as error:
        checkpoint.load(path, text_encoder=old.text_encoder)
    one_line(error)


# -- the text encoder --------------------------------------------------------------------------------------------------


def test_no_text_encoder_or_one_that_does_not_fit(old: Written, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="holds no text encoder; expected a folder of Gemma 3 12B"):
        checkpoint.load(old.path)
    with pytest.raises(MissingError, match="no text encoder at"):
        checkpoint.load(old.path, text_encoder=tmp_path / "nowhere")
    with pytest.raises(MissingError, match=r"no config\.json"):
        checkpoint.load(old.path, text_encoder=tmp_path)
    wide = official_files.write_gemma(tmp_path / "deep", official_files.untrained.Size(text_layers=3))
    with pytest.raises(BadInputError, match="4 states of width 32; expected 3 of width 32") as error:
        checkpoint.load(old.path, text_encoder=wide)
    one_line(error)
    (wide / "config.json").write_text(json.dumps({"model_type": "gemma2"}))
    with pytest.raises(BadInputError, match=r"is gemma2; expected Gemma 3 12B, for LTX-2\.0"):
        checkpoint.load(old.path, text_encoder=wide)
    with pytest.raises(UsageError, match="which has its own"):
        checkpoint.load(text_encoder=old.text_encoder)


def test_a_text_encoder_without_its_weights_or_tokenizer(old: Written, tmp_path: Path) -> None:
    for index, gone in enumerate(("model.safetensors", "tokenizer.json")):
        folder = official_files.write_gemma(tmp_path / str(index), official_files.TEXT)
        (folder / gone).unlink()
        with pytest.raises((MissingError, BadInputError)) as error:
            checkpoint.load(old.path, text_encoder=folder)
        assert str(folder) in one_line(error)


def test_the_version_of_the_text_encoder(old: Written, tmp_path: Path) -> None:
    """A file may name the version that it was trained with: another one is refused, a stock Gemma 3 names none."""
    named = old.metadata | {"gemma_source_checkpoint": json.dumps({"gemma_version": "gemma3-12b-v1"})}
    path = old.rewrite(tmp_path / "named.safetensors", metadata=named)
    assert checkpoint.load(path, text_encoder=old.text_encoder).text.max_tokens == 1024
    gemma = official_files.write_gemma(tmp_path / "gemma", official_files.TEXT)
    config = json.loads((gemma / "config.json").read_text())
    (gemma / "config.json").write_text(json.dumps(config | {"gemma_version": "gemma3-12b-v2"}))
    with pytest.raises(BadInputError, match=r"says that it is gemma3-12b-v2; expected gemma3-12b-v1"):
        checkpoint.load(path, text_encoder=gemma)


def test_text_encoder_of_a_diffusers_folder(old: Written) -> None:
    """A folder in diffusers layout serves as the text encoder's home too; the bundled one's is of another width."""
    with pytest.raises(BadInputError, match="connectors"):
        checkpoint.load(old.path, text_encoder=models.mini_folder())
