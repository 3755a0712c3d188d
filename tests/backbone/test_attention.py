"""The cross-modal rule and the reference modes, against the masked reference code and by gradients."""

from __future__ import annotations

import copy
from pathlib import Path

import models
import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2AdaLayerNormSingle
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from benchmarks.masked import install_masks
from justdub import flow
from justdub.backbone import attention
from justdub.backbone.transformer import JointTransformer, Velocity
from justdub.dubbing.guidance import ATTENTION, CROSS_MODAL, EVERYTHING, REFERENCE, TEXT, Guidance, Row
from justdub.dubbing.sampler import sample
from justdub.sequence import SequencePlan, SequenceRules

ISOLATED = SequenceRules(reference="isolated")


def at(plan: SequencePlan, sigma: float = 0.7, seed: int = 3):
    generator = torch.Generator().manual_seed(seed)
    video, audio = (torch.randn(s.clean_BNC.shape, generator=generator) for s in (plan.video, plan.audio))
    sigma_B = torch.full((video.shape[0],), sigma)
    return plan.at(video, audio, sigma_B, sigma_B)


def gap(one: Velocity, other: Velocity) -> float:
    return max((one.video_BNC - other.video_BNC).abs().max(), (one.audio_BNC - other.audio_BNC).abs().max()).item()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
@pytest.mark.parametrize("generation", list(models.GENERATIONS))
def test_slicing_equals_the_reference_codes_mask(generation: str, rope_type: str, batch: int) -> None:
    ours = models.joint(generation, rope_type=rope_type)
    sequence, text = at(models.plan(ours, batch=batch)), models.text_context(batch)
    masked = JointTransformer(copy.deepcopy(ours.module))
    install_masks(masked.module, sequence.layout)
    assert gap(ours.velocity(sequence, text), masked._forward(sequence, text)) < 2e-6


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
def test_full_cross_modal_equals_the_stock_transformer(generation: str) -> None:
    ours = models.joint(generation)
    sequence, text = at(models.plan(ours, SequenceRules(cross_modal="full"))), models.text_context()
    stock = JointTransformer(copy.deepcopy(ours.module))
    install_masks(stock.module, sequence.layout, masked=False)
    assert gap(ours.velocity(sequence, text), stock._forward(sequence, text)) < 2e-6


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
def test_the_rule_changes_something(generation: str) -> None:
    """Otherwise the tests above could pass with a rule that is never applied."""
    ours = models.joint(generation)
    text = models.text_context()
    full = ours.velocity(at(models.plan(ours, SequenceRules(cross_modal="full"))), text)
    assert gap(ours.velocity(at(models.plan(ours)), text), full) > 1e-2


# -- which noise level drives what -------------------------------------------------------------------------------------


def timesteps_of(model: JointTransformer, sequence) -> dict[str, Tensor]:
    """What each of the timestep embeddings is given in a forward pass."""
    seen = {}
    for name, module in model.module.named_children():
        if isinstance(module, LTX2AdaLayerNormSingle):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0].clone()))
    model.velocity(sequence, models.text_context(sequence.video.sigma_B.shape[0]))
    return seen


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
def test_which_noise_level_drives_what(generation: str) -> None:
    """Two levels in two streams: 2.0 modulates between the streams by each token's own, 2.3 by the other stream's."""
    model = models.joint(generation)
    plan = models.plan(model, SequenceRules(keep_first_frame=True), batch=2)
    video_B, audio_B = torch.tensor([0.7, 0.2]), torch.tensor([0.4, 0.9])
    sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, video_B, audio_B)
    own_video, own_audio = (s.timesteps_BN.flatten() * 1000 for s in (sequence.video, sequence.audio))
    assert set(own_video.tolist()) == {0.0, *(video_B * 1000).tolist()}, "references and the kept frame are clean"
    between = {"2.0": (own_video, own_audio), "2.3": (audio_B * 1000, video_B * 1000)}[generation]
    expected = {
        "time_embed": own_video,
        "audio_time_embed": own_audio,
        "av_cross_attn_video_scale_shift": between[0],
        "av_cross_attn_video_a2v_gate": between[0],
        "av_cross_attn_audio_scale_shift": between[1],
        "av_cross_attn_audio_v2a_gate": between[1],
    }
    if generation == "2.3":  # text modulation: each stream by its own level, one for all rows
        expected |= {"prompt_adaln": video_B * 1000, "audio_prompt_adaln": audio_B * 1000}
    seen = timesteps_of(model, sequence)
    assert seen.keys() == expected.keys()
    assert all(torch.equal(seen[name], expected[name]) for name in expected)


# -- zero gradients ---------------------------------------------------------------------------------------------------


def leak(model: JointTransformer, rules: SequenceRules, source: str, target: str) -> float:
    """Largest gradient of the target rows of one stream with respect to the reference latents of the other.

    One block: after two, a legal path exists (reference audio -> target audio -> target video).
    """
    names = {"video": "video_reference_BCFHW", "audio": "audio_reference_BCTM"}
    shapes = {"video": (1, 6, 3, 2, 2), "audio": (1, 2, 7, 4)}
    reference = torch.randn(shapes[source], generator=torch.Generator().manual_seed(5)).requires_grad_()
    sequence = at(models.plan(model, rules, **{names[source]: reference}))
    output: Tensor = getattr(model.velocity(sequence, models.text_context()).target(sequence), f"{target}_BNC")
    output.square().sum().backward()
    return 0.0 if reference.grad is None else reference.grad.abs().max().item()


@pytest.fixture
def without_self_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the legal way of a reference into its own stream, so that any gradient left is a cross-modal leak."""

    def keep_to_itself(self, attn, hidden_states, *args, **kwargs):
        return attn.to_out[0](attn.to_v(hidden_states))

    monkeypatch.setattr(attention.SelfAttention, "__call__", keep_to_itself)


@pytest.mark.parametrize("reference", ["bidirectional", "isolated"])
@pytest.mark.parametrize(("source", "target"), [("audio", "video"), ("video", "audio")])
@pytest.mark.usefixtures("without_self_attention")
def test_no_gradient_from_a_target_to_the_other_modalitys_reference(source: str, target: str, reference: str) -> None:
    assert leak(models.joint(layers=4), SequenceRules(reference=reference), source, target) == 0.0


@pytest.mark.parametrize(("source", "target"), [("audio", "video"), ("video", "audio")])
def test_no_gradient_in_one_block_with_self_attention(source: str, target: str) -> None:
    model = models.joint(layers=1)
    # Self-attention comes first and carries the reference into its own stream's target; take that path away only.
    for layers in model.attention.self_attention:
        for processor in layers:
            processor.__class__ = IsolatedFromReference
    assert leak(model, SequenceRules(), source, target) == 0.0


class IsolatedFromReference(attention.SelfAttention):
    def __call__(self, attn, hidden_states, *args, query_rotary_emb=None, **kwargs):
        refs = getattr(self.joint.current.layout, self.stream).reference
        q, k = (f(attn, hidden_states, query_rotary_emb) for f in (self._queries, self._keys))
        v = attn.to_v(hidden_states).unflatten(2, (attn.heads, -1))
        parts = [self._attend(q[:, s], k[:, s], v[:, s]) for s in (slice(0, refs), slice(refs, None))]
        return self._project_out(attn, torch.cat(parts, 1), hidden_states)


@pytest.mark.parametrize(("source", "target"), [("audio", "video"), ("video", "audio")])
@pytest.mark.usefixtures("without_self_attention")
def test_a_planted_leak_is_caught(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let target rows read one reference token too many: the gradient test must see it."""
    call, read = attention.CrossModalAttention.__call__, attention.CrossModalAttention._read

    def remember(self, attn, x_BND, y_BND, mask, q_rotary, k_rotary):
        self.everything = y_BND, k_rotary
        return call(self, attn, x_BND, y_BND, mask, q_rotary, k_rotary)

    def leaky(self, attn, x_BND, y_BND, q_rotary, k_rotary):
        all_BND, all_rotary = self.everything
        start = all_BND.shape[1] - y_BND.shape[1] - 1
        return read(self, attn, x_BND, all_BND[:, start:], q_rotary, attention._rows(all_rotary, start, 10**6))

    monkeypatch.setattr(attention.CrossModalAttention, "__call__", remember)
    monkeypatch.setattr(attention.CrossModalAttention, "_read", leaky)
    assert leak(models.joint(layers=4), SequenceRules(), source, target) > 1e-4


@pytest.mark.parametrize(("source", "target"), [("audio", "video"), ("video", "audio")])
@pytest.mark.usefixtures("without_self_attention")
def test_the_unrestricted_rule_leaks(source: str, target: str) -> None:
    assert leak(models.joint(), SequenceRules(cross_modal="full"), source, target) > 1e-4


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
@pytest.mark.parametrize("stream", ["video", "audio"])
def test_isolated_references_read_nothing_of_the_target(stream: str, generation: str) -> None:
    """Neither its values nor its noise level."""
    model = models.joint(generation, layers=3)
    plan = models.plan(model, ISOLATED)
    one, other = (model.velocity(at(plan, sigma, seed), models.text_context()) for sigma, seed in ((0.7, 1), (0.2, 2)))
    refs = getattr(plan.layout, stream).reference
    rows = [getattr(v, f"{stream}_BNC")[:, :refs] for v in (one, other)]
    assert torch.equal(rows[0], rows[1])
    assert gap(one, other) > 1e-2


# -- the cache --------------------------------------------------------------------------------------------------------

GUIDED = Guidance(
    text=3.0, audio_text=2.0, reference=0.7, audio_reference=0.4, modality=1.5, audio_modality=2.0, stg=0.5,
    audio_stg=0.3, stg_blocks=(1,), rescale=0.3,
)  # fmt: skip


@pytest.mark.parametrize(("generation", "rope_type"), [("2.0", "split"), ("2.0", "interleaved"), ("2.3", "split")])
@pytest.mark.parametrize("guidance", [Guidance(), GUIDED], ids=["plain", "guided"])
def test_isolated_with_cache_equals_without_over_a_sampling_run(
    guidance: Guidance, rope_type: str, generation: str
) -> None:
    model = models.joint(generation, layers=3, rope_type=rope_type)
    plan = models.plan(model, SequenceRules(reference="isolated", keep_first_frame=True))
    results = {}
    for cached in (True, False):
        results[cached], report = sample(
            model, plan, text=models.text_context(), negative_text=models.text_context(seed=9), table=guidance.table(),
            sigmas=flow.schedule(12), seed=4, stg_blocks=guidance.stg_blocks, rescale_share=guidance.rescale,
            use_cache=cached,
        )  # fmt: skip
        assert report.prefills == (0 if not cached else 1 if guidance == Guidance() else 2)
        assert (report.cache_bytes > 0) == cached
    for name in ("video_BCFHW", "audio_BCTM"):
        assert (getattr(results[True], name) - getattr(results[False], name)).abs().max() < 1e-5


def in_one_pass(model: JointTransformer, sequence, text) -> Velocity:
    """All rows in one forward call, with the noise levels that the transformer gives them."""
    with model.attention.running(attention.Pass(sequence.layout, sequence.rules)):
        return model._forward(sequence, text)


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
def test_isolated_references_run_at_their_own_noise_level(generation: str) -> None:
    """From 2.3 on the level of the step modulates all rows of a pass: isolated references have one of their own, 0."""
    model, text = models.joint(generation, layers=3), models.text_context()
    plan = models.plan(model, ISOLATED)
    clean, noisy = at(plan, 0.0), at(plan, 0.7)
    refs = plan.layout.video.reference
    assert gap(model.velocity(clean, text), in_one_pass(model, clean, text)) < 2e-6, "at level 0 there is no difference"
    rows = model.velocity(noisy, text).video_BNC[:, :refs]
    assert (rows - model.velocity(clean, text).video_BNC[:, :refs]).abs().max() < 2e-6
    difference = gap(model.velocity(noisy, text), in_one_pass(model, noisy, text))
    assert difference < 2e-6 if generation == "2.0" else difference > 1e-3
    # In one block the target does not see the difference yet: keys and values are made before text is read.
    model = models.joint(generation, layers=1)
    ours, other = model.velocity(noisy, text).target(noisy), in_one_pass(model, noisy, text).target(noisy)
    assert gap(ours, other) < 2e-6


@pytest.mark.parametrize("missing", ["video_reference_BCFHW", "audio_reference_BCTM"])
def test_a_reference_in_one_stream_alone(missing: str) -> None:
    model, text = models.joint("2.3"), models.text_context()
    sequence = at(models.plan(model, ISOLATED, **{missing: None}))
    assert gap(model.velocity(sequence, text), in_one_pass(model, sequence, text)) == 0


def test_bidirectional_references_share_the_level_of_the_step() -> None:
    """As the published adapters for 2.3 were trained."""
    model, text = models.joint("2.3"), models.text_context()
    sequence = at(models.plan(model))
    assert gap(model.velocity(sequence, text), in_one_pass(model, sequence, text)) == 0


def test_guidance_leaves_reference_rows_as_they_are() -> None:
    """So that one cache serves every pass over the same text, in both reference modes."""
    model = models.joint(layers=1)
    for rules in (SequenceRules(), ISOLATED):
        plan = models.plan(model, rules)
        sequence, text = at(plan), models.text_context()
        plain = model.velocity(sequence, text)
        refs = plan.layout.video.reference
        for taken in ({"skip_cross_modal": True}, {"skip_self_attention_blocks": frozenset({0})}):
            perturbed = model.velocity(sequence, text, **taken)
            assert (perturbed.video_BNC - plain.video_BNC)[:, :refs].abs().max() < 1e-6
            assert (perturbed.video_BNC - plain.video_BNC)[:, refs:].abs().max() > 1e-3


def test_a_set_without_reference_runs_the_short_sequence() -> None:
    model = models.joint()
    plan = models.plan(model)
    rows = (Row(EVERYTHING - {REFERENCE}, 1.0, 1.0),)
    bare = models.plan(model, reference=False)
    runs = [
        sample(model, p, text=models.text_context(), negative_text=models.text_context(), table=t,
               sigmas=(1.0, 0.5, 0.0), seed=1)[0]
        for p, t in ((plan, rows), (bare, (Row(EVERYTHING, 1.0, 1.0),)))
    ]  # fmt: skip
    assert torch.equal(runs[0].video_BCFHW, runs[1].video_BCFHW)


# -- training and compiling -------------------------------------------------------------------------------------------


def lora_gradients(model: JointTransformer, plans: list[SequencePlan]) -> list[Tensor]:
    """Gradients of a LoRA after the losses of several plans are summed, then back-propagated together."""
    outputs = [model.velocity(at(p), models.text_context()) for p in plans]
    sum(v.video_BNC.square().mean() + v.audio_BNC.square().mean() for v in outputs).backward()
    named = [(n, p) for n, p in model.module.named_parameters() if p.requires_grad]
    gradients = [p.grad.clone() for _, p in named]
    for _, p in named:
        p.grad = None
    return gradients


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
@pytest.mark.parametrize("rules", [SequenceRules(), ISOLATED], ids=["bidirectional", "isolated"])
def test_gradient_checkpointing_keeps_the_layout_of_each_pass(rules: SequenceRules, generation: str) -> None:
    """Two different layouts in flight before one backward: each block is run again in its own, with its own cache."""
    from peft import LoraConfig

    model = models.joint(generation, layers=3)
    targets = ["attn1.to_q", "audio_to_video_attn.to_k", "video_to_audio_attn.to_out.0", "audio_ff.net.2"]
    model.module.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False))
    plans = [models.plan(model, rules), models.plan(model, rules, grid=(2, 2, 2), steps=5)]
    plain = lora_gradients(model, plans)
    model.enable_gradient_checkpointing()
    model.module.train()
    checkpointed = lora_gradients(model, plans)
    assert len(plain) == 3 * 2 * len(targets)
    assert max((a - b).abs().max().item() for a, b in zip(plain, checkpointed, strict=True)) < 1e-6
    assert max(g.abs().max().item() for g in plain) > 1e-3


def test_isolated_references_of_2_3_train_in_a_process_group(tmp_path: Path) -> None:
    """Their two forward calls before one backward are shared like one. In a process of its own: gloo's end may hang."""
    from multiprocessing import get_context

    process = get_context("spawn").Process(target=_train_in_a_group, args=(tmp_path,))
    process.start()
    process.join(timeout=120)
    process.kill()
    largest, apart = map(float, (tmp_path / "found").read_text().split())
    assert apart == 0 and largest > 1e-3


def _train_in_a_group(folder: Path) -> None:
    import os

    from peft import LoraConfig
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    model = models.joint("2.3", layers=2)
    targets = ["attn1.to_k", "audio_to_video_attn.to_k", "attn2.to_q"]
    model.module.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
    plans = [models.plan(model, ISOLATED)]
    alone = lora_gradients(model, plans)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'group'}", rank=0, world_size=1)
    model.call = DistributedDataParallel(model.module)
    shared = lora_gradients(model, plans)
    largest = max(g.abs().max().item() for g in alone)
    apart = max((a - b).abs().max().item() for a, b in zip(alone, shared, strict=True))
    (folder / "found").write_text(f"{largest} {apart}")
    os._exit(0)


def test_peft_wrapping_keeps_the_rule() -> None:
    from peft import LoraConfig

    ours = models.joint()
    targets = ["audio_to_video_attn.to_out.0", "attn1.to_v", "audio_attn1.to_k"]
    ours.module.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False))
    sequence, text = at(models.plan(ours)), models.text_context()
    masked = JointTransformer(copy.deepcopy(ours.module))
    install_masks(masked.module, sequence.layout)
    assert gap(ours.velocity(sequence, text), masked._forward(sequence, text)) < 2e-6


@pytest.mark.parametrize("rules", [SequenceRules(), ISOLATED], ids=["bidirectional", "isolated"])
def test_compiled_equals_eager_with_one_graph_per_phase(rules: SequenceRules) -> None:
    """All blocks share a graph; a new noise level or a new prefill does not compile again."""
    model = models.joint(layers=3)
    plan, text = models.plan(model, rules), models.text_context()
    counter = CompileCounterWithBackend("eager")
    with torch.no_grad():
        eager = model.velocity(at(plan), text)
        torch._dynamo.reset()
        model.module.compile_repeated_blocks(fullgraph=True, dynamic=False, backend=counter)
        for sigma in (0.7, 0.3, 0.7):
            compiled = model.velocity(at(plan, sigma), text)
        assert gap(compiled, eager) < 1e-5
        assert counter.frame_count == 1
        if rules == ISOLATED:
            bare = plan.without_reference()
            for sigma in (0.3, 0.7):
                cache = model.prefill(plan.reference_only(), text)
                cached = model.velocity(at(bare, sigma), text, cache=cache)
            assert gap(cached, eager.target(at(plan))) < 1e-5
            assert counter.frame_count == 3


def test_the_transformer_cannot_run_without_its_rules() -> None:
    model = models.joint()
    with pytest.raises(RuntimeError, match="JointTransformer"):
        model._forward(at(models.plan(model)), models.text_context())


def test_a_mask_from_outside_is_refused_not_lost() -> None:
    model = models.joint()
    plan = models.plan(model)
    tokens = plan.layout.video.length
    original = model.module.forward

    def with_mask(**kwargs):
        return original(**kwargs, video_self_attention_mask=torch.ones(1, tokens, tokens))

    model.module.forward = with_mask
    with pytest.raises(ValueError, match="set by the pass"):
        model.velocity(at(plan), models.text_context())


def test_every_condition_is_covered() -> None:
    assert {TEXT, REFERENCE, CROSS_MODAL, ATTENTION} == EVERYTHING
