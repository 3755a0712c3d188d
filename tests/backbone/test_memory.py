"""What is counted beforehand is what is used, and every use of memory gives the same dub."""

from __future__ import annotations

import gc
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import models
import numpy as np
import pytest
import torch

from justdub.backbone import checkpoint, eight_bits, kernels, memory, untrained
from justdub.backbone.attention import Kept
from justdub.backbone.codecs import VideoCodec
from justdub.backbone.count import Blueprint, LivePeak, Shape
from justdub.backbone.memory import GIB, Estimator, Job, Use, choose, guard
from justdub.backbone.residency import Residency, stream
from justdub.dubbing.pipeline import DubPipeline
from justdub.errors import MissingError
from justdub.sequence import SequenceRules

CARD = checkpoint.Card(name="random", size=(64, 64), steps=2, guidance=2.0, audio_guidance=2.0, stg_blocks=(1,))
ISOLATED = SequenceRules(reference="isolated")
SHAPE = Shape(17, 128, 96, Fraction(25))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbone")
    untrained.write(folder, CARD, size=untrained.Size(layers=3, registers=None))
    return folder


@pytest.fixture(scope="module")
def blueprint(folder: Path) -> Blueprint:
    return Blueprint(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> checkpoint.Backbone:
    return checkpoint.load(folder)


def watched(run, *known: torch.nn.Module) -> int:
    """Peak of the tensors that a real run makes."""
    gc.collect()
    with torch.no_grad(), LivePeak(*known) as watch:
        result = run()
        del result
    return watch.peak


# -- counting ---------------------------------------------------------------------------------------------------------


def test_weights_are_those_of_the_loaded_parts(blueprint: Blueprint, backbone: checkpoint.Backbone) -> None:
    for part, size in blueprint.weights.items():
        modules = [getattr(backbone.pipeline, name) for name in memory.PARTS[part]]
        assert size == sum(p.nbytes for m in modules for p in m.parameters()), part


@pytest.mark.parametrize("cached", [False, True])
def test_a_pass_needs_what_was_counted(blueprint: Blueprint, backbone: checkpoint.Backbone, cached: bool) -> None:
    """All blocks of the real transformer on the CPU against one block on the meta device, within 10 %."""
    counted, cache = blueprint.denoising(SHAPE, ISOLATED, cached=cached, text_tokens=20)
    plan = blueprint.plan(SHAPE, ISOLATED)
    real = backbone.transformer
    streams = {}
    for name in ("video", "audio"):
        stream_ = getattr(plan, name)
        streams[name] = replace(
            stream_,
            reference_BRC=torch.zeros(stream_.reference_BRC.shape),
            clean_BNC=torch.zeros(stream_.clean_BNC.shape),
            kept_BN=torch.zeros(stream_.kept_BN.shape, dtype=torch.bool),
            positions_BDN2=torch.zeros(stream_.positions_BDN2.shape),
        )
    plan = replace(plan, **streams)
    width = real.module.config.caption_channels
    text = models.TextContext(torch.zeros(1, 20, width), torch.zeros(1, 20, width))
    sigma_B = torch.ones(1)
    kept = real.prefill(plan.reference_only(), text) if cached else None
    assert cache == (kept.nbytes if cached else 0)

    def step():
        bare = plan.without_reference() if cached else plan
        sequence = bare.at(bare.video.clean_BNC, bare.audio.clean_BNC, sigma_B, sigma_B)
        return real.velocity(sequence, text, cache=kept)

    assert watched(step, real.module) == pytest.approx(counted, rel=0.1)


def test_codecs_need_what_was_counted(blueprint: Blueprint, backbone: checkpoint.Backbone) -> None:
    vae = backbone.pipeline.vae
    pixels = torch.zeros(1, 3, SHAPE.frames, SHAPE.height, SHAPE.width)
    latents = vae.encode(pixels).latent_dist.mode()
    encoded = watched(lambda: vae.encode(torch.zeros_like(pixels)).latent_dist.mode(), vae)
    assert encoded == pytest.approx(blueprint.encoding(SHAPE), rel=0.1)
    decoded = watched(lambda: vae.decode(torch.zeros_like(latents), return_dict=False)[0], vae)
    assert decoded == pytest.approx(blueprint.decoding(SHAPE, tiles=False), rel=0.1)


def test_tiles_need_what_was_counted(blueprint: Blueprint, backbone: checkpoint.Backbone) -> None:
    shape = Shape(9, 960, 544)
    codec = VideoCodec(backbone.pipeline.vae)
    latents = torch.zeros(1, codec.latent_channels, 2, 17, 30)
    codec._tile(True)
    try:
        used = watched(lambda: codec.vae.decode(latents, return_dict=False)[0], codec.vae)
    finally:
        codec._tile(False)
    assert 0.95 * used < blueprint.decoding(shape, tiles=True) < 1.4 * used


def test_more_of_everything_needs_more(blueprint: Blueprint) -> None:
    larger = replace(SHAPE, width=256)
    assert blueprint.encoding(larger) > 1.8 * blueprint.encoding(SHAPE)
    more, less = (blueprint.denoising(s, ISOLATED, cached=False, text_tokens=20)[0] for s in (larger, SHAPE))
    assert more > 1.5 * less


# -- choosing ---------------------------------------------------------------------------------------------------------


def test_smaller_cards_get_smaller_uses(blueprint: Blueprint) -> None:
    job = Job(SHAPE, replace(SHAPE, width=256, height=192), ISOLATED, adapters=10_000, cached=True)
    estimator = Estimator(blueprint, job)
    everything = estimator.estimate(Use())
    assert choose(estimator, everything.peak).use == Use()
    smaller = [choose(estimator, int(everything.peak * share)) for share in (0.95, 0.8, 0.6, 0.4, 0.0)]
    assert all(a.peak >= b.peak for a, b in zip([everything, *smaller], smaller, strict=False))
    assert smaller[0].use != Use() and smaller[-1].use.one_at_a_time
    assert set(everything.phases) == {"text", "encode", "denoise", "refine", "decode"}
    fp8 = estimator.estimate(Use(fp8=True))
    saved = everything.phases["denoise"] - fp8.phases["denoise"]
    assert saved == blueprint.weights["transformer"] - blueprint.transformer_fp8 > 0
    streamed = estimator.estimate(Use(stream=True))
    assert streamed.phases["denoise"] < everything.phases["denoise"]
    one, two = (Estimator(blueprint, replace(job, texts=n)).estimate(Use()).phases["denoise"] for n in (1, 2))
    assert two - one == blueprint.denoising(SHAPE, ISOLATED, cached=True)[1]


def test_eight_bits_are_counted_as_they_are_stored(blueprint: Blueprint, folder: Path) -> None:
    module = checkpoint.load(folder).transformer.module
    eight_bits.store(module)
    stored = [*module.parameters(), *(b for n, b in module.named_buffers() if n.endswith("scale_O"))]
    assert sum(p.nbytes for p in stored) == blueprint.transformer_fp8
    kept = {name.partition(".")[0] for name, p in module.named_parameters() if p.dtype == torch.float32}
    precise = {"proj_in", "proj_out", "audio_proj_in", "audio_proj_out", "time_embed", "audio_time_embed"}
    assert precise | {"caption_projection", "av_cross_attn_video_scale_shift", "av_cross_attn_audio_v2a_gate"} <= kept
    blocks = [p.dtype for n, p in module.named_parameters() if ".attn1.to_q.weight" in n or ".ff.net.2.weight" in n]
    assert set(blocks) == {torch.uint8}


# -- every use gives the same dub -------------------------------------------------------------------------------------


def generated(folder: Path, use: Use | None, **settings) -> np.ndarray:
    pipe = DubPipeline(checkpoint.load(folder), use=use, device=CPU)
    made = pipe.generate('The man is speaking English, saying: "Yes."', frames=9, seed=3, **settings)
    return made.frames_FHW3.astype(np.float32)


@pytest.fixture(scope="module")
def plain(folder: Path) -> np.ndarray:
    return generated(folder, None)


@pytest.mark.parametrize(
    "use",
    [
        Use(free_text=True, tiles=True),
        Use(free_text=True, stream_text=True, one_at_a_time=True, tiles=True),
        Use(free_text=True, stream=True, one_at_a_time=True, tiles=True),
    ],
    ids=str,
)
def test_moving_weights_changes_nothing(folder: Path, plain: np.ndarray, use: Use) -> None:
    assert np.array_equal(generated(folder, use), plain)


@pytest.mark.parametrize("streamed", [False, True])
def test_eight_bits_change_little_and_not_the_adapter(folder: Path, plain: np.ndarray, streamed: bool) -> None:
    found = generated(folder, Use(fp8=True, stream=streamed, free_text=True))
    assert 0 < np.abs(found - plain).mean() < 10


def test_freed_text_is_told(folder: Path) -> None:
    pipe = DubPipeline(checkpoint.load(folder), use=Use(free_text=True), device=CPU)
    pipe.generate("A boat.", frames=9, steps=1)
    pipe.generate("A boat.", frames=9, steps=1, seed=1)
    assert pipe.backbone.pipeline.text_encoder is None
    with pytest.raises(MissingError, match="text encoder was freed"):
        pipe.generate("A ship.", frames=9, steps=1)


def test_parts_are_away_when_they_do_not_work(folder: Path) -> None:
    backbone = checkpoint.load(folder)
    residency, seen = Residency(backbone, Use(one_at_a_time=True), torch.device("meta")), {}
    vae = backbone.pipeline.vae
    try:
        with residency.using("video"):
            seen["within"] = vae.device.type
    except NotImplementedError:  # meta tensors cannot come back: that it tried is what counts
        seen["after"] = "cpu"
    assert seen == {"within": "meta", "after": "cpu"}


@pytest.mark.parametrize("blocks", [False, True])
def test_streamed_weights_compute_the_same(blocks: bool) -> None:
    model = models.joint(layers=3)
    plan, text = models.plan(model), models.text_context()
    sigma_B = torch.full((1,), 0.5)
    with torch.no_grad():
        sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
        before = model.velocity(sequence, text)
        stream(model.module, CPU, blocks=blocks)
        after = model.velocity(sequence, text)
    assert torch.equal(before.video_BNC, after.video_BNC) and torch.equal(before.audio_BNC, after.audio_BNC)


# -- the reference cache -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "bound"), [("device", 0.0), ("host", 0.0), ("fp8", 0.05)])
def test_caches_of_every_kind(place: str, bound: float) -> None:
    model = models.joint()
    plan, text = models.plan(model, ISOLATED), models.text_context()
    sigma_B = torch.full((1,), 0.5)
    bare = plan.without_reference()
    with torch.no_grad():
        sequence = bare.at(bare.video.clean_BNC, bare.audio.clean_BNC, sigma_B, sigma_B)
        exact = model.prefill(plan.reference_only(), text)
        kept = model.prefill(plan.reference_only(), text, keep=place)
        right, found = (model.velocity(sequence, text, cache=cache).video_BNC for cache in (exact, kept))
    error = (right - found).abs().max().item() / right.std().item()
    assert error <= bound and (error > 0) == (place == "fp8")
    assert kept.nbytes == exact.nbytes // (4 if place == "fp8" else 1)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_eight_bits_hold_keys_of_any_size(size: float) -> None:
    x = torch.randn(1, 5, 2, 8, generator=torch.Generator().manual_seed(0)) * size
    back = Kept.of(x, "fp8").restore(x)
    assert ((back - x).abs().max() / x.abs().max()).item() < 0.04
    assert torch.equal(Kept.of(torch.zeros(1, 1, 1, 1), "fp8").restore(x), torch.zeros(1, 1, 1, 1))


# -- tiles ------------------------------------------------------------------------------------------------------------


def test_tiles_never_touch_what_is_encoded(backbone: checkpoint.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a tile in every direction: latents are bit-equal, frames are close."""
    from justdub.backbone import codecs

    monkeypatch.setattr(codecs, "TILE", (64, 16))
    monkeypatch.setattr(codecs, "TILE_STEP", (32, 8))
    codec = VideoCodec(backbone.pipeline.vae)
    frames = np.random.default_rng(0).integers(0, 256, (33, 128, 96, 3), dtype=np.uint8)
    whole, decoded = codec.encode(frames), codec.decode(codec.encode(frames))
    codec.tiles = True
    assert torch.equal(codec.encode(frames), whole)
    tiled = codec.decode(whole)
    assert tiled.shape == decoded.shape and not torch.equal(tiled, decoded)
    assert torch.equal(codec.encode(frames), whole), "decoding in tiles leaves no switch behind"
    VideoCodec(backbone.pipeline.vae)


# -- too little of it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 10 bytes."),
        MemoryError(),
    ],
)
@pytest.mark.parametrize(("stage", "knob"), [("denoise", "--memory"), ("decode", "tiles"), ("encode", "--size")])
def test_a_shortage_names_the_knob(error: BaseException, stage: str, knob: str) -> None:
    with pytest.raises(MissingError, match=f"not enough memory to {stage}.*{knob}") as caught, guard(stage):
        raise error
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


def test_other_errors_pass_the_guard() -> None:
    with pytest.raises(RuntimeError, match="shape mismatch"), guard("denoise"):
        raise RuntimeError("shape mismatch")


def test_a_real_shortage() -> None:
    with pytest.raises(MissingError, match="not enough memory to encode"), guard("encode"):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_tier_budgets() -> None:
    assert 70 * GIB < memory.tier_budget(80) < 76 * GIB
    assert memory.free_bytes(CPU) > 2**20


# -- kernels and compilation -------------------------------------------------------------------------------------------


def test_kernels_are_tried_and_fall_back() -> None:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()[0]
    assert kernels.probe("native", CPU, torch.float32) == ""
    assert "flash" in kernels.probe("flash", CPU, torch.float32).lower()
    model = models.joint()
    plan, text = models.plan(model), models.text_context()
    sigma_B = torch.full((1,), 0.5)
    sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
    with torch.no_grad():
        native = model.velocity(sequence, text).video_BNC
        for name in ("math", "native"):
            assert kernels.use(model.module, name, CPU) == ""
            backend = model.module.transformer_blocks[0].attn1.processor._attention_backend
            assert backend == kernels.KERNELS[name]
            assert (model.velocity(sequence, text).video_BNC - native).abs().max() < 1e-5
        note = kernels.use(model.module, "sage", CPU)
        assert "--attention sage cannot be used" in note and "native attention instead" in note and "\n" not in note
        assert torch.equal(model.velocity(sequence, text).video_BNC, native)
    assert _AttentionBackendRegistry.get_active_backend()[0] == before, "other models keep their kernel"


@pytest.mark.parametrize("stored", [False, True], ids=["as it is", "in eight bits"])
def test_compiled_blocks_equal_eager_ones(stored: bool) -> None:
    model = models.joint(layers=3)
    if stored:
        eight_bits.store(model.module)
    plan, text = models.plan(model, ISOLATED), models.text_context()
    sigma_B = torch.full((1,), 0.5)
    with torch.no_grad():
        sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
        eager = model.velocity(sequence, text).video_BNC
        torch._dynamo.reset()
        kernels.compile_blocks(model.module, backend="aot_eager")
        assert (model.velocity(sequence, text).video_BNC - eager).abs().max() < 1e-5
        fp8 = model.prefill(plan.reference_only(), text, keep="fp8")
        bare = plan.without_reference()
        sequence = bare.at(bare.video.clean_BNC, bare.audio.clean_BNC, sigma_B, sigma_B)
        target = eager[:, plan.layout.video.reference :]
        found = model.velocity(sequence, text, cache=fp8).video_BNC
    assert (found - target).abs().max() < 0.05 * target.std()
