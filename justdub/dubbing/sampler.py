"""The denoising loop: both streams together, from noise to latents.

Letters: B batch (1 here), N target tokens, C channels, F/H/W latent grid, T audio latents, M mel bins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from justdub import flow
from justdub.backbone.attention import CachePlace, ReferenceCache
from justdub.backbone.text import TextContext
from justdub.backbone.transformer import JointTransformer, Velocity
from justdub.dubbing.guidance import ATTENTION, CROSS_MODAL, EVERYTHING, REFERENCE, TEXT, Row, rescale
from justdub.errors import JustDubError
from justdub.sequence import SequencePlan
from justdub.tokens import patchify_audio, patchify_video


@dataclass(frozen=True)
class Latents:
    """Normalised latents of one clip, float32."""

    video_BCFHW: Tensor
    audio_BCTM: Tensor


@dataclass(frozen=True)
class SamplingReport:
    """What a run cost: forward passes of target tokens, prefills, and bytes of the reference caches."""

    passes: int
    prefills: int
    cache_bytes: int


class NonFiniteError(JustDubError):
    """The model returned NaN or infinity."""


@torch.inference_mode()
def sample(
    transformer: JointTransformer,
    plan: SequencePlan,
    *,
    text: TextContext,
    negative_text: TextContext,
    table: Sequence[Row],
    sigmas: Sequence[float],
    seed: int,
    stg_blocks: Sequence[int] = (),
    rescale_share: float = 0.0,
    use_cache: bool = True,
    keep_cache: CachePlace = "device",
    start: Latents | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Latents, SamplingReport]:
    """Denoise the target of `plan` from pure noise, or from `start` with noise of the first sigma.

    Args:
        plan: the clip's sequence, with its reference.
        text, negative_text: contexts of the passes with and without the text condition.
        table: guidance (`Guidance.table` or `nested`).
        sigmas: falling noise levels that end in 0 (`flow.schedule`, `flow.DISTILLED_STAGE_1`).
        seed: of the noise; drawn on the CPU, so a seed means the same on every device.
        use_cache: keep the reference's keys and values where that is exact (isolated references).
        keep_cache: where and how they are kept (`attention.ReferenceCache`).
        start: latents that are refined; the first sigma says how much of them is kept.
        on_step: called with (steps done, steps in all).

    Raises:
        NonFiniteError: the prediction is not finite; names the step.
    """
    device = plan.video.positions_BDN2.device
    generator = torch.Generator().manual_seed(seed)
    video_BNC, audio_BNC = (
        torch.randn(stream.clean_BNC.shape, generator=generator).to(device) for stream in (plan.video, plan.audio)
    )
    if start is not None:
        sigma_B = torch.full((video_BNC.shape[0],), sigmas[0], device=device)
        video_x0_BNC = patchify_video(start.video_BCFHW.to(device), plan.patch)
        audio_x0_BNC = patchify_audio(start.audio_BCTM.to(device))
        video_BNC = flow.mix(video_x0_BNC, video_BNC, plan.video.target_sigmas(sigma_B))
        audio_BNC = flow.mix(audio_x0_BNC, audio_BNC, plan.audio.target_sigmas(sigma_B))
    runner = _PassRunner(transformer, plan, text, negative_text, frozenset(stg_blocks), use_cache, keep_cache)
    steps = len(sigmas) - 1
    for step in range(steps):
        sigma, sigma_next = sigmas[step], sigmas[step + 1]
        sigma_B = torch.full((video_BNC.shape[0],), sigma, device=device)
        x0 = _guided_x0(runner, table, video_BNC, audio_BNC, sigma_B, rescale_share)
        for stream, value in (("video", x0.video_BNC), ("audio", x0.audio_BNC)):
            if not torch.isfinite(value).all():
                raise NonFiniteError(
                    f"the {stream} prediction is not finite at step {step + 1} of {steps} (sigma {sigma:.3f})",
                    remedy="--dtype float32, or a lower adapter strength or guidance",
                )
        video_sigma_BN, audio_sigma_BN = plan.video.target_sigmas(sigma_B), plan.audio.target_sigmas(sigma_B)
        video_v = flow.velocity_from_x0(video_BNC, x0.video_BNC, video_sigma_BN)
        audio_v = flow.velocity_from_x0(audio_BNC, x0.audio_BNC, audio_sigma_BN)
        video_BNC = flow.euler_step(video_BNC, video_v, sigma, sigma_next)
        audio_BNC = flow.euler_step(audio_BNC, audio_v, sigma, sigma_next)
        if on_step:
            on_step(step + 1, steps)
    final = plan.at(video_BNC, audio_BNC, torch.zeros_like(sigma_B), torch.zeros_like(sigma_B))
    video_BNC = final.video.tokens_BNC[:, plan.layout.video.reference :]  # kept tokens at their clean values
    audio_BNC = final.audio.tokens_BNC[:, plan.layout.audio.reference :]
    latents = Latents(*plan.latents(plan.video.pin(video_BNC), plan.audio.pin(audio_BNC)))
    return latents, runner.report()


class _PassRunner:
    """Runs the pass of one condition set and keeps the reference cache of each text."""

    def __init__(
        self,
        transformer: JointTransformer,
        plan: SequencePlan,
        text: TextContext,
        negative_text: TextContext,
        stg_blocks: frozenset[int],
        use_cache: bool,
        keep_cache: CachePlace = "device",
    ) -> None:
        self.transformer, self.plan, self.stg_blocks, self.keep_cache = transformer, plan, stg_blocks, keep_cache
        # A stream of which everything is given has no noise: from LTX-2.3 on the other stream's modulation reads that.
        self.audio_given = bool(plan.audio.kept_BN.all())
        self.bare = plan.without_reference()
        self.texts = {True: text, False: negative_text}
        isolated = plan.rules.reference == "isolated" and plan.has_reference
        self.caching = use_cache and isolated
        self.caches: dict[bool, ReferenceCache] = {}
        self.passes = 0

    def run(self, conditions: frozenset[str], video_BNC: Tensor, audio_BNC: Tensor, sigma_B: Tensor) -> Velocity:
        """Velocities of the target rows, float32."""
        cached = self.caching and REFERENCE in conditions
        plan = self.plan if REFERENCE in conditions and not cached else self.bare
        audio_sigma_B = torch.zeros_like(sigma_B) if self.audio_given else sigma_B
        sequence = plan.at(video_BNC, audio_BNC, sigma_B, audio_sigma_B)
        with_text = TEXT in conditions
        output = self.transformer.velocity(
            sequence,
            self.texts[with_text],
            skip_self_attention_blocks=frozenset() if ATTENTION in conditions else self.stg_blocks,
            skip_cross_modal=CROSS_MODAL not in conditions,
            cache=self._cache(with_text) if cached else None,
        ).target(sequence)
        self.passes += 1
        return Velocity(output.video_BNC.float(), output.audio_BNC.float())

    def _cache(self, with_text: bool) -> ReferenceCache:
        if with_text not in self.caches:
            self.caches[with_text] = self.transformer.prefill(
                self.plan.reference_only(), self.texts[with_text], keep=self.keep_cache
            )
        return self.caches[with_text]

    def report(self) -> SamplingReport:
        return SamplingReport(self.passes, len(self.caches), sum(c.nbytes for c in self.caches.values()))


def _guided_x0(
    runner: _PassRunner, table: Sequence[Row], video_BNC: Tensor, audio_BNC: Tensor, sigma_B: Tensor, share: float
) -> Velocity:
    """Weighted sum of the clean latents that each condition set predicts (as the LTX-2 guider: on x0, not velocity)."""
    sigmas = runner.plan.video.target_sigmas(sigma_B), runner.plan.audio.target_sigmas(sigma_B)
    plain = None
    video_sum, audio_sum = torch.zeros_like(video_BNC), torch.zeros_like(audio_BNC)
    for row in table:
        v = runner.run(row.conditions, video_BNC, audio_BNC, sigma_B)
        video_x0 = flow.x0_from_velocity(video_BNC, v.video_BNC, sigmas[0])
        audio_x0 = flow.x0_from_velocity(audio_BNC, v.audio_BNC, sigmas[1])
        video_sum += row.video * video_x0
        audio_sum += row.audio * audio_x0
        if row.conditions == EVERYTHING:
            plain = Velocity(video_x0, audio_x0)
    if plain is not None and share > 0:
        video_sum, audio_sum = rescale(video_sum, plain.video_BNC, share), rescale(audio_sum, plain.audio_BNC, share)
    return Velocity(runner.plan.video.pin(video_sum), runner.plan.audio.pin(audio_sum))
