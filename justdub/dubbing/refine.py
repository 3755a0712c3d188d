"""The second stage of a dub: the picture again at twice the size, the sound as the first stage left it.

    stage 1 (half size)          x2 upsampler             stage 2 (full size)
    video latents  ────────────────────────────►  noised to the first sigma, refined in 2 or 3 steps, no guidance
    audio latents  ──────────────────────────────────────────────────────►  given clean, and what is delivered

Two published ways of doing it differ in the noise levels and in what the sound of the second stage may read. In both
the video reference is the source, encoded again at full size. Sources: JUST-DUB-IT and LTX-2 Dub-It pipelines.

Letters: B batch, C channels, F/H/W latent grid, T audio latents, M mel bins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from justdub import flow
from justdub.backbone.checkpoint import Backbone
from justdub.dubbing.clip import Source
from justdub.dubbing.guidance import Guidance
from justdub.dubbing.manifest import Manifest
from justdub.dubbing.sampler import Latents, sample
from justdub.dubbing.settings import DubSettings
from justdub.dubbing.upsampler import LatentUpsampler
from justdub.lora.files import AdapterFile, apply, check_base, set_strengths
from justdub.lora.rack import LoadedAdapter
from justdub.lora.reference import Strength
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence
from justdub.tokens import Geometry

if TYPE_CHECKING:
    from justdub.dubbing.pipeline import DubPipeline

FACTOR = 2  # by which the second stage is larger
SLOT = "refinement"  # inside the transformer; adapters of the rack are called adapter_000000


@dataclass(frozen=True)
class Variant:
    """One published second stage.

    Attributes:
        sigmas: its noise levels.
        audio_reference: what the sound reads: that of the ``source``, or the ``first`` stage's result.
        keep_adapter: whether the dubbing adapter stays on.
    """

    sigmas: tuple[float, ...]
    audio_reference: Literal["source", "first"]
    keep_adapter: bool


VARIANTS = {
    "justdubit": Variant(flow.JUSTDUBIT_STAGE_2, "source", keep_adapter=False),
    "lipdub": Variant(flow.DISTILLED_STAGE_2, "first", keep_adapter=True),
}


class Refiner:
    """What a second stage needs on a backbone: the upsampler, and the adapter that makes few steps enough.

    Args:
        adapter: the distilled LoRA, or None for a backbone that is distilled itself.
    """

    def __init__(
        self,
        backbone: Backbone,
        upsampler: LatentUpsampler,
        adapter: AdapterFile | None = None,
        strength: float | Strength = 1.0,
        *,
        any_base: bool = False,
    ) -> None:
        upsampler.check_fit(backbone.video_codec)
        self.backbone, self.upsampler, self.adapter = backbone, upsampler, adapter
        self.strength, self.notice = Strength.of(strength), ""
        if adapter is not None:
            card, fingerprint = backbone.card, backbone.fingerprint
            self.notice = check_base(adapter, fingerprint=fingerprint, base=card.name, any_base=any_base)
            apply(backbone.transformer.module, adapter, SLOT)

    @contextmanager
    def active(self, loaded: Mapping[str, LoadedAdapter], *, keep: bool) -> Iterator[None]:
        """Within, the transformer carries the refining adapter, and the `loaded` ones only when they are kept."""
        module = self.backbone.transformer.module
        dubbing = {one.slot: one.strength for one in loaded.values()}
        refining = {SLOT: self.strength} if self.adapter is not None else {}
        set_strengths(module, (dubbing if keep else {}) | refining)
        try:
            yield
        finally:
            set_strengths(module, dubbing)

    def rest(self, loaded: Mapping[str, LoadedAdapter]) -> None:
        """Switch the refining adapter off: the first stage runs without it."""
        set_strengths(self.backbone.transformer.module, {one.slot: one.strength for one in loaded.values()})

    def unload(self) -> None:
        """Take the adapter off the backbone."""
        if self.adapter is not None:
            self.backbone.transformer.module.delete_adapters(SLOT)
            self.adapter = None

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        adapter = None if self.adapter is None else {"path": str(self.adapter.path), "strength": str(self.strength)}
        return {"upsampler": str(self.upsampler.path), "adapter": adapter}


def plan_refinement(
    variant: Variant,
    first: Latents,
    *,
    video_BCFHW: Tensor,
    reference_BCFHW: Tensor,
    audio_BCTM: Tensor,
    frame_rate: Fraction,
    geometry: Geometry,
    rules: SequenceRules,
) -> SequencePlan:
    """The sequence of the second stage.

    Args:
        first: what the first stage made.
        video_BCFHW: the source at full size (a kept first frame is taken from it).
        reference_BCFHW: the video reference, smaller by `rules.reference_downscale`.
        audio_BCTM: the source's sound.
    """
    given_BCTM = first.audio_BCTM.to(audio_BCTM.device)
    plan = plan_sequence(
        video_target_BCFHW=video_BCFHW,
        audio_target_BCTM=given_BCTM,
        video_reference_BCFHW=reference_BCFHW,
        audio_reference_BCTM=audio_BCTM if variant.audio_reference == "source" else given_BCTM,
        frame_rate=frame_rate,
        geometry=geometry,
        rules=rules,
    )
    return replace(plan, audio=replace(plan.audio, kept_BN=torch.ones_like(plan.audio.kept_BN)))


def refine(
    pipe: DubPipeline,
    first: Latents,
    source: Source,
    prompt: str,
    rules: SequenceRules,
    settings: DubSettings,
    manifest: Manifest,
) -> Latents:
    """Run the second stage: the picture at the source's working size, the sound as it is.

    Args:
        first: what the first stage made at half of it. prompt: of the first stage, read already.
    """
    variant, refiner, backbone = VARIANTS[settings.two_stage], pipe.refiner, pipe.backbone
    keep = variant.keep_adapter if settings.refine_keep_adapter is None else settings.refine_keep_adapter
    with pipe.residency.using("video"), pipe.residency.borrowing(refiner.upsampler.module):
        larger_BCFHW = refiner.upsampler(first.video_BCFHW, backbone.video_codec)
    video_BCFHW, reference_BCFHW = pipe.encode_video(source, rules)
    plan = plan_refinement(
        variant,
        first,
        video_BCFHW=video_BCFHW,
        reference_BCFHW=reference_BCFHW,
        audio_BCTM=pipe.encode_audio(source.audio_CS),
        frame_rate=source.info.video.frame_rate,
        geometry=backbone.transformer.geometry,
        rules=rules,
    )
    text = backbone.text.encode(prompt)
    with pipe.residency.using("transformer"), refiner.active(pipe.adapters, keep=keep):
        latents, cost = sample(
            backbone.transformer,
            plan,
            text=text,
            negative_text=text,
            table=Guidance().table(),
            sigmas=variant.sigmas,
            seed=settings.seed,
            use_cache=settings.cache,
            keep_cache=settings.cache_place,
            start=Latents(larger_BCFHW, first.audio_BCTM),
        )
    manifest.record_refinement(refiner.record(), plan, variant, keep, asdict(cost))
    return Latents(latents.video_BCFHW, first.audio_BCTM)
