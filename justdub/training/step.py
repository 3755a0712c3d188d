"""The loss of some samples of an update: the sequence, the path, the forward call and the objective of the program.

Letters: B batch, N tokens, C channels, F/H/W video latents' grid, T audio latents, M mel bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from justdub import flow
from justdub.backbone.text import TextContext
from justdub.backbone.transformer import JointTransformer
from justdub.faces.masks import to_tokens
from justdub.sequence import Known, SequencePlan, SequenceRules, plan_sequence
from justdub.training.batches import Draw, Gap
from justdub.training.cache import Sample, pad_texts
from justdub.training.loss import LossWeights, Totals, dubbing_loss, video_weights

_FACE = 0.5  # mask values above it are face
TEXT_MULTIPLE = 32  # prompts are padded to it: few lengths, few graphs when compiled


@dataclass(frozen=True)
class Example:
    """A sample of an update with its random choices; text: of its prompt, or of the empty one."""

    sample: Sample
    text: TextContext
    draw: Draw

    @property
    def has_reference(self) -> bool:
        return self.draw.has_reference and self.sample.video_reference_Cfhw is not None


@dataclass(frozen=True)
class Part:
    """Examples that run in one forward pass: one shape, all with reference or all without."""

    plan: SequencePlan
    text: TextContext
    mask_BFHW: Tensor | None
    examples: tuple[Example, ...]

    def weights(self, weights: LossWeights) -> Tensor:
        return video_weights(self.plan.video.kept_BN, self.mask_BFHW, weights)

    def audio_tokens(self) -> int:
        """Audio target tokens that are generated."""
        return int((~self.plan.audio.kept_BN).sum())


@dataclass(frozen=True)
class Losses:
    """total: to be differentiated. video, audio: this part's own shares of the update's losses, as numbers."""

    total: Tensor
    video: float
    audio: float


def parts(
    examples: Sequence[Example], joint: JointTransformer, rules: SequenceRules, device: torch.device
) -> list[Part]:
    """Lay examples of one shape out for as few forward passes as possible."""
    found = []
    for has_reference in (True, False):
        chosen = tuple(example for example in examples if example.has_reference == has_reference)
        if chosen:
            found.append(_part(chosen, has_reference, joint, rules, device))
    return found


def _part(
    examples: tuple[Example, ...],
    has_reference: bool,
    joint: JointTransformer,
    rules: SequenceRules,
    device: torch.device,
) -> Part:
    def stacked(name: str) -> Tensor:
        return torch.stack([getattr(example.sample, name).float() for example in examples]).to(device)

    plan = plan_sequence(
        video_target_BCFHW=stacked("video_target_Cfhw"),
        audio_target_BCTM=stacked("audio_target_CTM"),
        video_reference_BCFHW=stacked("video_reference_Cfhw") if has_reference else None,
        audio_reference_BCTM=stacked("audio_reference_CTM") if has_reference else None,
        frame_rate=examples[0].sample.frame_rate,
        geometry=joint.geometry,
        rules=rules,
        keep_first_frame_B=torch.tensor([example.draw.keep_first_frame for example in examples]),
        known=_known(examples),
    )
    mask_BFHW = None
    if any(example.sample.mask_fhw is not None for example in examples):
        blank = torch.zeros(examples[0].sample.video_target_Cfhw.shape[1:])  # no face: weighted as without a mask
        masks = [blank if e.sample.mask_fhw is None else e.sample.mask_fhw.float() for e in examples]
        mask_BFHW = to_tokens(torch.stack(masks), joint.geometry.patch).to(device)
    text = pad_texts([example.text for example in examples], TEXT_MULTIPLE)
    return Part(plan, _to(text, device), mask_BFHW, examples)


def _known(examples: Sequence[Example]) -> Known | None:
    """What is given of samples of which only a part is generated; None: there are none."""
    if all(example.draw.gap is None for example in examples):
        return None
    video, audio = [], []
    for example in examples:
        sample, gap = example.sample, example.draw.gap
        frames, steps = sample.video_target_Cfhw.shape[1], sample.audio_target_CTM.shape[1]
        if gap is None:
            video.append(torch.zeros(sample.video_target_Cfhw.shape[1:], dtype=torch.bool))
            audio.append(torch.zeros(steps, dtype=torch.bool))
            continue
        free_fhw = torch.ones(sample.video_target_Cfhw.shape[1:], dtype=torch.bool)
        if sample.mask_fhw is not None:
            wide = 2 * gap.grow + 1
            face_fhw = (sample.mask_fhw.float() > _FACE).float()
            free_fhw = torch.nn.functional.max_pool2d(face_fhw[:, None], wide, 1, gap.grow)[:, 0] > 0
        video.append(~(free_fhw & _between(gap, frames)[:, None, None]))
        audio.append(~_between(gap, steps) if gap.sound else torch.ones(steps, dtype=torch.bool))
    return Known(torch.stack(video), torch.stack(audio))


def _between(gap: Gap, count: int) -> Tensor:
    """bool (count,): latents within the gap's time."""
    when = (torch.arange(count) + 0.5) / count
    return (when >= gap.start) & (when < gap.end)


def losses(joint: JointTransformer, part: Part, weights: LossWeights, totals: Totals) -> Losses:
    """Run one part forward, and backward by the caller, both under `fast_attention`: a checkpointed block runs again
    in the backward pass and must find the kernel that it ran with. totals: of the whole update, on this part's device
    or as numbers."""
    plan = part.plan
    device = plan.video.clean_BNC.device
    sigmas = [
        torch.tensor([getattr(example.draw, name) for example in part.examples], device=device)
        for name in ("video_sigma", "audio_sigma")
    ]
    noises = _noise(part)
    streams = (plan.video, plan.audio)
    noisy = [
        flow.mix(stream.clean_BNC, noise, stream.target_sigmas(sigma))
        for stream, noise, sigma in zip(streams, noises, sigmas, strict=True)
    ]
    sequence = plan.at(*noisy, *sigmas)
    found = joint.velocity(sequence, part.text).target(sequence)
    true = [flow.velocity(stream.clean_BNC, noise) for stream, noise in zip(streams, noises, strict=True)]
    common: dict[str, Any] = dict(
        kept_BN=plan.video.kept_BN,
        audio_kept_BN=plan.audio.kept_BN,
        face_mask_BFHW=part.mask_BFHW,
        weights=weights,
        totals=totals,
    )
    total = dubbing_loss(
        video_predicted_BNC=found.video_BNC,
        video_true_BNC=true[0],
        audio_predicted_BNC=found.audio_BNC,
        audio_true_BNC=true[1],
        **common,
    )
    with torch.no_grad():
        error_BN = (found.audio_BNC.float() - true[1]).square().mean(-1)
        audio = (error_BN * ~plan.audio.kept_BN).sum() / totals.audio
    return Losses(total, float(total.detach() - weights.audio * audio), float(audio))


def fast_attention(device: torch.device) -> Any:
    """On a CPU the fused kernel's backward pass is seven times slower than plain matrix products."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def _noise(part: Part) -> tuple[Tensor, Tensor]:
    """Every sample's noise from its own seed, drawn on the CPU: the same in any batch and on any device."""
    video, audio = [], []
    for example, clean_NC, clean_TC in zip(
        part.examples, part.plan.video.clean_BNC, part.plan.audio.clean_BNC, strict=True
    ):
        generator = torch.Generator().manual_seed(example.draw.seed)
        video.append(torch.randn(clean_NC.shape, generator=generator))
        audio.append(torch.randn(clean_TC.shape, generator=generator))
    device = part.plan.video.clean_BNC.device
    return torch.stack(video).to(device), torch.stack(audio).to(device)


def _to(text: TextContext, device: torch.device) -> TextContext:
    masks = (None if mask is None else mask.to(device) for mask in (text.video_mask_BL, text.audio_mask_BL))
    spans = None if text.spans_BL2 is None else text.spans_BL2.to(device)
    return TextContext(text.video_BLD.to(device), text.audio_BLD.to(device), *masks, spans)
