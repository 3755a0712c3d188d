"""Two stages: half size, x2 upsampler, full size. Tiny random modules, for real."""

from __future__ import annotations

from pathlib import Path

import clips
import numpy as np
import pytest
import torch
from adapter_files import random_factors
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from safetensors.torch import save_file

from justdub import flow
from justdub.backbone import checkpoint, untrained
from justdub.dubbing.pipeline import DubPipeline
from justdub.dubbing.refine import SLOT
from justdub.dubbing.upsampler import LatentUpsampler
from justdub.errors import BadInputError, MissingError, UsageError
from justdub.lora.files import write
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules

CARD = checkpoint.Card(name="random", size=(64, 64), steps=2, guidance=2.0, audio_guidance=2.0, stg_blocks=(1,))
CHANNELS = untrained.Size().video_channels
PROMPT = 'The man is speaking English, saying: "Yes."'


def tiny_upsampler(channels: int = CHANNELS, **changes) -> LTX2LatentUpsamplerModel:
    torch.manual_seed(0)
    return LTX2LatentUpsamplerModel(in_channels=channels, mid_channels=32, num_blocks_per_stage=1, **changes).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone, its upsampler as a folder and as an official file, and two adapters."""
    root = tmp_path_factory.mktemp("two_stages")
    untrained.write(root / "backbone", CARD, size=untrained.Size(layers=2, registers=None))
    tiny_upsampler().save_pretrained(root / "upsampler")
    save_file(dict(tiny_upsampler().state_dict()), root / "spatial-upscaler-x2.safetensors")
    model = checkpoint.load(root / "backbone").transformer.module
    names = [f"transformer_blocks.{block}.{name}" for block in range(2) for name in ("attn1.to_q", "ff.net.2")]
    for name, seed in (("dub", 1), ("distilled", 2)):
        write(root / f"{name}.safetensors", random_factors(model, names, seed=seed, scale=0.5), AdapterMetadata())
    return root


@pytest.fixture
def pipe(folder: Path) -> DubPipeline:
    return DubPipeline.from_pretrained(folder / "backbone", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clips.make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=0.36, size=(128, 128))


def frames(pipe: DubPipeline, clip: Path, **settings) -> np.ndarray:
    return pipe(clip, prompt=PROMPT, **settings).frames_FHW3


@pytest.mark.parametrize("rational", [True, False])
def test_an_official_file_is_the_folder(rational: bool, tmp_path: Path) -> None:
    module = tiny_upsampler(use_rational_resampler=rational)
    module.save_pretrained(tmp_path / "parent" / "latent_upsampler")
    save_file(dict(module.state_dict()), tmp_path / "official.safetensors")
    latents = torch.randn(1, CHANNELS, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = [LatentUpsampler.load(tmp_path / name).module(latents) for name in ("parent", "official.safetensors")]
        assert torch.equal(outputs[0], module(latents)) and torch.equal(outputs[1], outputs[0])
    assert outputs[0].shape == (1, CHANNELS, 2, 4, 6)


def test_the_upsampler_works_on_the_vaes_own_scale(pipe: DubPipeline) -> None:
    codec, upsampler = pipe.backbone.video_codec, LatentUpsampler(tiny_upsampler(), Path("x"))
    latents = torch.randn(1, CHANNELS, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(codec.normalise(codec.denormalise(latents)), latents)
    codec.vae.latents_mean += 0.5
    codec.vae.latents_std *= 3
    with torch.no_grad():
        by_hand = (upsampler.module(latents * 3 + 0.5) - 0.5) / 3
    torch.testing.assert_close(upsampler(latents, codec), by_hand, atol=1e-5, rtol=1e-4)


def test_upsamplers_that_do_not_fit_are_refused(folder: Path, pipe: DubPipeline, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="does not exist"):
        LatentUpsampler.load(tmp_path / "nothing.safetensors")
    save_file(
        dict(tiny_upsampler(spatial_upsample=False, temporal_upsample=True).state_dict()), tmp_path / "t.safetensors"
    )
    with pytest.raises(BadInputError, match="does not double"):
        LatentUpsampler.load(tmp_path / "t.safetensors")
    state = dict(tiny_upsampler().state_dict())
    save_file(state | {"more": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(BadInputError, match="1 unknown"):
        LatentUpsampler.load(tmp_path / "more.safetensors")
    whole = (folder / "spatial-upscaler-x2.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match="cannot be read"):
        LatentUpsampler.load(tmp_path / "half.safetensors")
    tiny_upsampler(CHANNELS + 1).save_pretrained(tmp_path / "wide")
    with pytest.raises(BadInputError, match=f"{CHANNELS + 1} channels"):
        pipe.load_refiner(tmp_path / "wide")


@pytest.mark.parametrize(
    ("variant", "sigmas"), [("justdubit", flow.JUSTDUBIT_STAGE_2), ("lipdub", flow.DISTILLED_STAGE_2)]
)
def test_a_dub_in_two_stages(variant: str, sigmas: tuple, folder: Path, pipe: DubPipeline, clip: Path) -> None:
    """The sound is the first stage's, the picture is twice as large, and the manifest says what was done."""
    pipe.load_adapter(folder / "dub.safetensors")
    pipe.load_refiner(folder / "upsampler", folder / "distilled.safetensors")
    dub = pipe(clip, prompt=PROMPT, two_stage=variant, size=(130, 100))
    assert dub.frames_FHW3.shape == (9, 128, 128, 3)
    said = dub.manifest.as_dict()
    assert "size 130x100 taken as 128x128, the nearest that two stages can make" in said["adjustments"]
    refinement = said["refinement"]
    assert tuple(refinement["sigmas"]) == sigmas and refinement["passes"] == len(sigmas) - 1
    assert refinement["tokens"]["video"]["target"] == 4 * said["sampling"]["tokens"]["video"]["target"]
    assert refinement["adapters_kept"] == (variant == "lipdub")
    assert len(refinement["upsampler_sha256"]) == 64
    half = pipe(clip, prompt=PROMPT, size=(64, 64))
    # Stage 1 is the plain dub of half the size, but for the scaler: pixels are averaged, ffmpeg's are bicubic.
    assert np.abs(dub.audio_CS - half.audio_CS).max() < 0.01 < np.abs(half.audio_CS).max()


def test_without_a_size_the_result_has_twice_the_sides_that_were_trained(
    folder: Path, pipe: DubPipeline, clip: Path
) -> None:
    pipe.load_refiner(folder / "upsampler")
    assert frames(pipe, clip, two_stage="lipdub").shape[1:3] == (128, 128)


def test_the_second_stage_reads_what_its_variant_says(folder: Path, pipe: DubPipeline, clip: Path, monkeypatch) -> None:
    """Sound given clean and told to be without noise; the reference is the source's or the first stage's."""
    from justdub.dubbing import pipeline, refine

    pipe.load_refiner(folder / "upsampler")
    seen, sample = [], pipeline.sample

    def watch(transformer, plan, **rest):
        latents, cost = sample(transformer, plan, **rest)
        seen.append((plan, rest, latents))
        return latents, cost

    for module in (pipeline, refine):
        monkeypatch.setattr(module, "sample", watch)
    for variant in ("justdubit", "lipdub"):
        frames(pipe, clip, two_stage=variant)
        (first, _, made), (second, rest, result) = seen[-2:]
        assert bool(second.audio.kept_BN.all()) and not bool(second.video.kept_BN.any())
        made_tokens = made.audio_BCTM.transpose(1, 2).flatten(2)
        assert torch.equal(second.audio.clean_BNC, made_tokens)
        source = first.audio.reference_BRC
        assert torch.equal(second.audio.reference_BRC, source if variant == "justdubit" else made_tokens)
        assert not torch.equal(source, made_tokens)
        assert torch.equal(result.audio_BCTM, made.audio_BCTM)
        larger = pipe.refiner.upsampler(made.video_BCFHW, pipe.backbone.video_codec)
        assert torch.equal(rest["start"].video_BCFHW, larger)


def test_given_sound_has_no_noise_level(folder: Path, pipe: DubPipeline, clip: Path, monkeypatch) -> None:
    pipe.load_refiner(folder / "upsampler")
    seen, velocity = [], pipe.backbone.transformer.velocity

    def watch(sequence, text, **rest):
        seen.append(
            (sequence.video.sigma_B.item(), sequence.audio.sigma_B.item(), sequence.audio.timesteps_BN.max().item())
        )
        return velocity(sequence, text, **rest)

    monkeypatch.setattr(pipe.backbone.transformer, "velocity", watch)
    frames(pipe, clip, two_stage="lipdub", steps=1, guidance=1.0, audio_guidance=1.0)
    first, second = seen[0], seen[1:]
    assert first == (1.0, 1.0, 1.0)
    assert [round(s, 6) for s, _, _ in second] == list(flow.DISTILLED_STAGE_2[:-1])
    assert all(audio == 0 and step == 0 for _, audio, step in second)


def test_adapters_of_the_two_stages(folder: Path, pipe: DubPipeline, clip: Path) -> None:
    """The dubbing adapter is on in stage 1 and stays by choice; the distilled one is on in stage 2 alone."""
    size = {"two_stage": "justdubit", "size": (64, 64)}
    plain = frames(pipe, clip)
    pipe.load_refiner(folder / "upsampler")
    bare = frames(pipe, clip, **size)
    pipe.load_refiner(folder / "upsampler", folder / "distilled.safetensors")
    assert np.array_equal(frames(pipe, clip), plain), "one stage does not see the distilled adapter"
    refined = frames(pipe, clip, **size)
    assert not np.array_equal(refined, bare)
    pipe.load_adapter(folder / "dub.safetensors")
    dropped = frames(pipe, clip, **size)
    assert np.array_equal(dropped, frames(pipe, clip, **size)), "strengths are put back after a dub"
    kept = frames(pipe, clip, refine_keep_adapter=True, **size)
    assert not np.array_equal(dropped, kept)
    pipe.unload_adapters()
    assert SLOT not in getattr(pipe.backbone.transformer.module, "peft_config", {})
    assert np.array_equal(frames(pipe, clip), plain) and np.array_equal(frames(pipe, clip, **size), bare)


def test_a_kept_first_frame_and_a_small_reference(folder: Path, clip: Path) -> None:
    rules = SequenceRules(cross_modal="full", audio_positions="negative", reference_downscale=2, keep_first_frame=True)
    pipe = DubPipeline(checkpoint.load(folder / "backbone"), rules=rules)
    pipe.load_refiner(folder / "spatial-upscaler-x2.safetensors")
    dub = pipe(clip, prompt=PROMPT, two_stage="lipdub")
    assert dub.frames_FHW3.shape[1:3] == (128, 128)
    tokens = dub.manifest.content["refinement"]["tokens"]["video"]
    assert tokens["target"] == 4 * tokens["reference"]


def test_two_stages_need_an_upsampler(pipe: DubPipeline, clip: Path) -> None:
    with pytest.raises(UsageError, match="load_refiner"):
        pipe(clip, prompt=PROMPT, two_stage="justdubit")
    with pytest.raises(UsageError, match="second stage"):
        pipe(clip, prompt=PROMPT, refine_keep_adapter=True)
