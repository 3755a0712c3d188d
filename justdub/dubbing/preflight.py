"""What a dub would do and need, before any weight is read: sizes, tokens, passes, memory. From configs and headers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from justdub import flow
from justdub.backbone import checkpoint, memory
from justdub.backbone.count import Blueprint, Shape
from justdub.backbone.memory import GIB, Estimate, Estimator, Job, Use
from justdub.dubbing.guidance import Guidance
from justdub.dubbing.refine import FACTOR, VARIANTS
from justdub.dubbing.settings import DubSettings
from justdub.dubbing.size import clip_size
from justdub.errors import BadInputError, MissingError
from justdub.lora.files import AdapterFile, generation_of
from justdub.lora.merge import read_record
from justdub.lora.metadata import AdapterMetadata
from justdub.lora.profiles import Profile, downscale_of
from justdub.lora.shelf import PEFT_WEIGHTS, describe
from justdub.sequence import SequenceRules

TIGHT = 0.9  # of what is free: beyond it the user is told


@dataclass(frozen=True)
class Preflight:
    """A dub, planned.

    Attributes:
        first: the clip as the first (or only) stage sees it; second: of two stages.
        tokens: of each stage, (video target, audio target).
        passes: forward passes of each stage.
        use: how memory will be used; None: everything on the device at once.
        free: bytes on the device now.
    """

    backbone: str
    device: torch.device
    dtype: torch.dtype
    first: Shape
    second: Shape | None
    rules: SequenceRules
    tokens: tuple[tuple[int, int], ...]
    passes: tuple[int, ...]
    cached: bool
    estimate: Estimate
    use: Use | None
    free: int

    def text(self) -> str:
        """A few lines for the user."""
        stages = [f"{self.first}", *([f"{self.second}"] if self.second else [])]
        lines = [f"backbone   {self.backbone} on {self.device} in {str(self.dtype).removeprefix('torch.')}"]
        for stage, shape in enumerate(stages):
            video, audio = self.tokens[stage]
            lines.append(
                f"stage {stage + 1}    {shape}: {video} video and {audio} audio tokens and their reference, "
                f"{self.passes[stage]} passes"
            )
        rules = self.rules
        lines.append(
            f"rules      cross-modal {rules.cross_modal}, reference {rules.reference}"
            f"{' with cache' if self.cached else ''}, audio positions {rules.audio_positions}"
        )
        lines.append(f"memory     {self.estimate.use}")
        lines += [f"           {phase:10s} {gib(size)}" for phase, size in self.estimate.phases.items()]
        lines.append(f"           {gib(self.free)} free on {self.device}, {gib(self.estimate.host)} needed beside it")
        return "\n".join(lines)

    def check(self) -> str:
        """One line when memory is tight, else "".

        Raises:
            MissingError: there is less than is needed.
        """
        needed, where = self.estimate.peak, self.estimate.worst
        said = f"{self.second or self.first} needs about {gib(needed)} on {self.device} (to {where})"
        if needed > self.free:
            raise MissingError(
                f"not enough memory: {said}, {gib(self.free)} are free", remedy=remedy(self.estimate, self.device)
            )
        if needed > TIGHT * self.free:
            return f"memory is tight: {said} of {gib(self.free)} that are free"
        beside = memory.free_bytes(torch.device("cpu"))
        if self.device.type == "cuda" and self.estimate.host > beside:
            return f"main memory is tight: loading needs about {gib(self.estimate.host)}, {gib(beside)} are free"
        return ""


def remedy(estimate: Estimate, device: torch.device) -> str:
    """What to change first."""
    if estimate.use == Use() and device.type == "cuda":
        return "--memory auto, or a smaller --size"
    return memory.KNOBS.get(estimate.worst, "a smaller --size or a shorter clip")


class Planner:
    """Plans one dub, in as many tiers as are asked for; what they share is counted once.

    Args:
        info: a probed clip, or anything with `video` and `display_aspect` like one.
        adapters: files or peft folders, the dubbing ones first.
        profile: of adapters that do not say how they are run.

    Raises:
        MissingError, BadInputError: a backbone or adapter that cannot be read.
    """

    def __init__(
        self,
        backbone: str | Path,
        info: Any,
        settings: DubSettings,
        *,
        adapters: tuple[Path, ...] = (),
        profile: Profile | None = None,
        device: str = "auto",
        dtype: str = "auto",
        text_encoder: str | Path | None = None,
    ) -> None:
        self.settings, self.device = settings, checkpoint.choose_device(device)
        self.dtype = checkpoint.choose_dtype(dtype, self.device)
        path = checkpoint.find(backbone)
        self.card = checkpoint.Card.read(path)
        self.blueprint = Blueprint(path, dtype=self.dtype, text_encoder=text_encoder)
        adapters = tuple(one / PEFT_WEIGHTS if one.is_dir() else one for one in adapters)
        _check_generation(profile, self.blueprint)
        headers, merged = [_header(one) for one in adapters], [one.metadata for one in read_record(path)]
        said = [one for one in (_said(headers, profile), *(one.rules for one in merged)) if one is not None]
        rules = effective_rules(next(iter(said), SequenceRules()), settings)
        told = [AdapterMetadata.from_strings(path, header) for path, header in headers]
        settings = self.settings = settings.filled(*(one.sampling for one in (*told, *merged)), self.card.sampling)
        size, _ = clip_size(info, settings, rules, self.card, self.blueprint.geometry)
        shapes = _shapes(info, settings, size, self.blueprint)
        self.guided = _guided(settings, self.card)
        numbers = sum(describe(one.stem, one).parameters for one in adapters)
        self.job = Job(
            first=shapes[0],
            second=shapes[1] if len(shapes) > 1 else None,
            rules=rules,
            texts=2 if self.guided > 1 else 1,
            adapters=numbers * torch.finfo(self.dtype).bits // 8,
            cached=settings.cache and rules.reference == "isolated",
        )
        self.estimator, self.free = Estimator(self.blueprint, self.job), memory.free_bytes(self.device)

    def plan(self, tier: str | None = None, *, elsewhere: bool = False) -> Preflight:
        """The dub in one tier: None (everything on the device), ``auto`` (what is free) or a card's GiB.

        Args:
            elsewhere: on a GPU of the tier's size, whatever this machine has.
        """
        if tier is None:
            estimate, use = self.estimator.estimate(Use(cache=self.settings.cache_place)), None
        else:
            where = torch.device("cuda") if elsewhere else self.device
            budget = int(self.free * memory.SHARE) if tier == "auto" else memory.tier_budget(float(tier))
            estimate = memory.choose(self.estimator, budget, ladder=ladder(where, self.settings))
            use = estimate.use
        job, passes = self.job, [(len(_sigmas(self.settings, self.card)) - 1) * self.guided]
        if job.second is not None:
            passes.append(len(VARIANTS[self.settings.two_stage].sigmas) - 1)
        return Preflight(
            backbone=self.card.name,
            device=self.device,
            dtype=self.dtype,
            first=job.first,
            second=job.second,
            rules=job.rules,
            tokens=tuple(self.blueprint.tokens(shape) for shape in (job.first, job.second) if shape is not None),
            passes=tuple(passes),
            cached=job.cached,
            estimate=estimate,
            use=use,
            free=self.free,
        )


def ladder(device: torch.device, settings: DubSettings) -> tuple[Use, ...]:
    """The uses of memory that make sense: a cache where the user wants it, and no moving about on one device."""
    uses = memory.LADDER
    if settings.cache_place != "device":
        uses = tuple(dict.fromkeys(replace(use, cache=settings.cache_place) for use in uses))
    if device.type != "cuda":
        uses = tuple(use for use in uses if not use.stream and use.cache != "host")
    return uses


def effective_rules(rules: SequenceRules, settings: DubSettings) -> SequenceRules:
    """Rules with what the user overrides."""
    if settings.reference is not None:
        rules = replace(rules, reference=settings.reference)
    if settings.keep_first_frame is not None:
        rules = replace(rules, keep_first_frame=settings.keep_first_frame)
    return rules


def _check_generation(profile: Profile | None, blueprint: Blueprint) -> None:
    found = generation_of(blueprint.block.module.config)
    if profile is not None and profile.generation != found:
        raise BadInputError(
            f"profile {profile.name} is for LTX-{profile.generation}, the backbone is of generation {found}",
            expected="one generation: adapters do not carry over",
            remedy="the --backbone that the adapter was trained on",
        )


def _header(path: Path) -> tuple[Path, dict[str, str]]:
    """An adapter and what it says of itself."""
    try:
        with safe_open(path, framework="pt") as file:
            return path, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BadInputError(f"adapter {path} cannot be read: {error}", expected="a safetensors file") from error


def _said(headers: list[tuple[Path, dict[str, str]]], profile: Profile | None) -> SequenceRules | None:
    """The rules in the first header that has any, or the profile's."""
    for path, header in headers:
        if (said := AdapterMetadata.from_strings(path, header).rules) is not None:
            return said
        if profile is not None:
            return profile.rules(downscale=downscale_of(AdapterFile(path, {}, AdapterMetadata(), header)))
    return None


def _shapes(info: Any, settings: DubSettings, size: tuple[int, int], blueprint: Blueprint) -> list[Shape]:
    """Of each stage, first to last."""
    frames, rate = blueprint.geometry.padded_frames(info.video.frames), Fraction(info.video.frame_rate)
    full = Shape(frames, *size, rate)
    if settings.two_stage is None:
        return [full]
    return [Shape(frames, size[0] // FACTOR, size[1] // FACTOR, rate), full]


def _guided(settings: DubSettings, card: checkpoint.Card) -> int:
    """Forward passes of a step; settings: filled."""
    guidance = Guidance(
        text=settings.guidance,
        audio_text=settings.audio_guidance,
        reference=settings.reference_guidance,
        audio_reference=settings.audio_reference_guidance,
        joint=settings.joint_guidance,
        audio_joint=settings.audio_joint_guidance,
        modality=settings.modality_guidance,
        stg=settings.stg,
        stg_blocks=card.stg_blocks,
    )
    return len(guidance.table())


def _sigmas(settings: DubSettings, card: checkpoint.Card) -> tuple[float, ...]:
    if settings.schedule == "distilled":
        return flow.DISTILLED_STAGE_1
    return flow.schedule(settings.steps or card.steps, tokens=card.schedule_tokens)


def gib(size: int) -> str:
    """Bytes for people."""
    return f"{size / GIB:.1f} GiB" if size >= GIB // 10 else f"{size / 2**20:.0f} MiB"
