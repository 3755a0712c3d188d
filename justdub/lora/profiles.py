"""Published dubbing adapters by name: what their files do not say about how they are run.

    profile     adapter               base             sequences                                    sampling
    justdubit   JUST-DUB-IT           LTX-2.0, dev     cross-modal rule, shared positions, first    30 steps, CFG 3
                                                       frame kept
    lipdub      LTX-2 Dub-It          LTX-2.3,         no rule, the audio reference before time     8 fixed steps,
                (LipDub)              distilled        zero, a smaller video reference if its       no guidance
                                                       header says so

Sources: the inference code of JUST-DUB-IT and the LipDub pipeline of LTX-2. A file of this program says all of this
itself (`metadata.AdapterMetadata`) and takes no profile; any other file is given its rules one by one (`give_rules`).
Light: names can be listed without torch.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from justdub.errors import BadInputError, UsageError

if TYPE_CHECKING:
    from justdub.lora.files import AdapterFile
    from justdub.sequence import SequenceRules

# Headers of IC-LoRA files. The spatial factor has two names; a temporal one other than 1 cannot be run here.
SPATIAL_KEYS = ("reference_downscale_factor", "reference_spatial_scale_factor")
TEMPORAL_KEY = "reference_temporal_scale_factor"
# Beginnings or parts of module names that one generation alone has.
ONLY_IN = {
    "2.0": ("caption_projection.", "audio_caption_projection."),
    "2.3": ("prompt_adaln.", "audio_prompt_adaln.", ".to_gate_logits"),
}


@dataclass(frozen=True)
class Profile:
    """How a published adapter is run.

    Attributes:
        title: its published name.
        generation: of the base: "2.0" or "2.3".
        base: ``dev``, or ``distilled`` for a checkpoint of few steps.
        cross_modal, reference, audio_positions, keep_first_frame: see `sequence.SequenceRules`.
        schedule, steps, guidance, audio_guidance: see `dubbing.settings.DubSettings`; steps None: the schedule's own.
        two_stage: variant of the second stage (`dubbing.refine.VARIANTS`).
        refiner: whether the second stage needs the distilled LoRA, because the base is not distilled.
    """

    name: str
    title: str
    generation: str
    base: str
    cross_modal: str
    audio_positions: str
    keep_first_frame: bool
    schedule: str
    steps: int | None
    guidance: float
    audio_guidance: float
    two_stage: str
    refiner: bool
    reference: str = "bidirectional"

    def rules(self, *, downscale: int = 1) -> SequenceRules:
        """Its sequences, with a video reference smaller by `downscale`."""
        from justdub.sequence import SequenceRules

        return SequenceRules(
            cross_modal=self.cross_modal,  # type: ignore[arg-type]
            reference=self.reference,  # type: ignore[arg-type]
            audio_positions=self.audio_positions,  # type: ignore[arg-type]
            reference_downscale=downscale,
            keep_first_frame=self.keep_first_frame,
        )

    def settings(self, *, two_stage: bool = False) -> dict[str, Any]:
        """Defaults of `DubSettings` that it implies, by field; what a user sets goes before them.

        Args:
            two_stage: dub at half size, then refine.
        """
        found: dict[str, Any] = {
            "schedule": self.schedule,
            "steps": self.steps,
            "guidance": self.guidance,
            "audio_guidance": self.audio_guidance,
        }
        return found | ({"two_stage": self.two_stage} if two_stage else {})

    def apply(self, adapter: AdapterFile) -> AdapterFile:
        """The adapter with this profile's rules and generation, as if its file said them.

        Raises:
            UsageError: the file says itself how it is run.
            BadInputError: its modules are of another generation, or its header asks for what cannot be run.
        """
        return give_rules(adapter, self.rules(downscale=downscale_of(adapter)), self.generation, by=self.name)


PROFILES = {
    one.name: one
    for one in (
        Profile(
            name="justdubit",
            title="JUST-DUB-IT (ltx-2-19b-ic-lora-lipdubbing)",
            generation="2.0",
            base="dev",
            cross_modal="target_only",
            audio_positions="shared",
            keep_first_frame=True,
            schedule="ltx2",
            steps=30,
            guidance=3.0,
            audio_guidance=3.0,
            two_stage="justdubit",
            refiner=True,
        ),
        Profile(
            name="lipdub",
            title="LTX-2 Dub-It (LipDub)",
            generation="2.3",
            base="distilled",
            cross_modal="full",
            audio_positions="negative",
            keep_first_frame=False,
            schedule="distilled",
            steps=None,
            guidance=1.0,
            audio_guidance=1.0,
            two_stage="lipdub",
            refiner=False,
        ),
    )
}


def profile_of(name: str) -> Profile:
    """A profile by its name.

    Raises:
        UsageError: no such profile.
    """
    if name not in PROFILES:
        near = difflib.get_close_matches(name, PROFILES, 1)
        raise UsageError(f"no profile {name!r}", expected=", ".join(PROFILES), remedy=near[0] if near else "")
    return PROFILES[name]


def give_rules(adapter: AdapterFile, rules: SequenceRules, generation: str = "", *, by: str = "") -> AdapterFile:
    """An adapter whose file does not say how it is run, with rules from outside.

    Args:
        generation: of the base that it was trained on, where that is known.
        by: the profile that gives them, for errors.

    Raises:
        UsageError: the file has rules of its own.
        BadInputError: its modules are of another generation.
    """
    what = f"profile {by!r}" if by else "rules"
    if adapter.rules is not None:
        raise UsageError(
            f"{what} for adapter {adapter.path}, whose file says itself how it is run",
            expected="a file of another program",
            remedy="leave it out" if by else "leave them out",
        )
    shown = generation_of_modules(adapter)
    if generation and shown and generation != shown:
        raise BadInputError(
            f"adapter {adapter.path} changes modules that only LTX-{shown} has",
            expected=f"an adapter for LTX-{generation}, which {what} is for",
            remedy=" or ".join(f"--profile {p.name}" for p in PROFILES.values() if p.generation == shown),
        )
    return replace(adapter, metadata=replace(adapter.metadata, rules=rules, generation=generation or shown))


def generation_of_modules(adapter: AdapterFile) -> str:
    """The generation that an adapter's modules prove; empty when all have them (as published adapters do).

    Blocks of attention and feed-forward are alike in 2.0 and 2.3; gates, the modulation of text and the projection of
    captions are not.
    """
    for generation, parts in ONLY_IN.items():
        for part in parts:
            if any(part in name if part.startswith(".") else name.startswith(part) for name in adapter.modules):
                return generation
    return ""


def downscale_of(adapter: AdapterFile) -> int:
    """By how much an adapter's video reference is smaller than the target, as its header says; 1 without a word.

    Raises:
        BadInputError: no whole factor, two that differ, or one in time.
    """
    said = {key: _factor(adapter, key) for key in (*SPATIAL_KEYS, TEMPORAL_KEY) if key in adapter.header}
    if said.pop(TEMPORAL_KEY, 1) != 1:
        raise BadInputError(
            f"adapter {adapter.path} has {TEMPORAL_KEY} {adapter.header[TEMPORAL_KEY]}",
            expected="1: references are as long as the target here",
        )
    if len(set(said.values())) > 1:
        raise BadInputError(f"adapter {adapter.path} has {' and '.join(said)} that differ", expected="one factor")
    return next(iter(said.values()), 1)


def _factor(adapter: AdapterFile, key: str) -> int:
    try:
        value = float(adapter.header[key])
    except ValueError:
        value = math.nan
    if not value >= 1 or value != int(value):
        raise BadInputError(
            f"adapter {adapter.path} has {key} {adapter.header[key]!r}", expected="a whole number, 1 or more"
        )
    return int(value)
