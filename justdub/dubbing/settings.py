"""Every setting of a dub, with its default and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from justdub.errors import BadInputError, UsageError

# Longest clip that is dubbed in one pass: LTX-2's positions end at 20 s.
MAX_SECONDS = 20.0
# What an adapter may recommend, and where nobody says anything.
SAMPLING = (
    "steps", "guidance", "audio_guidance", "reference_guidance", "audio_reference_guidance", "joint_guidance",
    "audio_joint_guidance", "modality_guidance", "stg", "rescale",
)  # fmt: skip
_OFF = {"reference_guidance": 0.0, "joint_guidance": 1.0, "modality_guidance": 1.0, "stg": 0.0, "rescale": 0.0}
_SOUND_AS_PICTURE = ("reference_guidance", "joint_guidance")


@dataclass(frozen=True)
class DubSettings:
    """What a user can choose. None = as the adapter says, or else the checkpoint's card (`filled`).

    Attributes:
        seed: of the noise; the same seed, settings and machine give the same file.
        steps: model evaluations.
        schedule: ``ltx2`` (shifted and stretched) or ``distilled`` (the 8 fixed sigmas of distilled checkpoints).
        guidance, audio_guidance: classifier-free scales (1 = off).
        reference_guidance, audio_reference_guidance: identity guidance (0 = off); that of the sound is as that of the
            picture where nobody says otherwise.
        joint_guidance, audio_joint_guidance: classifier-free scales of prompt and source together (1 = off); likewise.
        modality_guidance: 1 = off, both streams.
        stg: spatio-temporal guidance (0 = off), both streams.
        rescale: guidance rescale, 0 to 1.
        negative_prompt: text of the pass without a prompt.
        size: (width, height) to work at.
        keep_first_frame: give the first frame as it is.
        reference: ``bidirectional`` or ``isolated``; overrides the adapter.
        cache: keep the keys and values of isolated references.
        cache_place: where: ``device``, ``fp8`` (there, in eight bits) or ``host``.
        two_stage: ``justdubit`` or ``lipdub``: work at half size, then refine at full size (`refine.VARIANTS`).
        refine_keep_adapter: whether the adapters stay on in the second stage; None = as the variant has it.
    """

    seed: int = 0
    steps: int | None = None
    schedule: str = "ltx2"
    guidance: float | None = None
    audio_guidance: float | None = None
    reference_guidance: float | None = None
    audio_reference_guidance: float | None = None
    joint_guidance: float | None = None
    audio_joint_guidance: float | None = None
    modality_guidance: float | None = None
    stg: float | None = None
    rescale: float | None = None
    negative_prompt: str | None = None
    size: tuple[int, int] | None = None
    keep_first_frame: bool | None = None
    reference: str | None = None
    cache: bool = True
    cache_place: str = "device"
    two_stage: str | None = None
    refine_keep_adapter: bool | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise UsageError(f"{self.steps} steps", expected="1 to 1000")
        if self.schedule not in ("ltx2", "distilled"):
            raise UsageError(f"schedule {self.schedule!r}", expected="ltx2 or distilled")
        if self.schedule == "distilled" and self.steps is not None:
            raise UsageError(
                "--steps with the distilled schedule", expected="its 8 fixed steps", remedy="leave one out"
            )
        if self.cache_place not in ("device", "fp8", "host"):
            raise UsageError(f"cache {self.cache_place!r}", expected="device, fp8 or host")
        if self.two_stage not in (None, "justdubit", "lipdub"):
            raise UsageError(f"two_stage {self.two_stage!r}", expected="justdubit or lipdub")
        if self.two_stage is None and self.refine_keep_adapter is not None:
            raise UsageError("a setting of the second stage without one", remedy="--two-stage, or leave it out")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed {self.seed}", expected="0 to 2^63 - 1")
        for name in SAMPLING[1:-1]:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 100:
                raise UsageError(f"{name.replace('_', ' ')} {value}", expected="0 to 100")
        if self.rescale is not None and not 0 <= self.rescale <= 1:
            raise UsageError(f"guidance rescale {self.rescale}", expected="0 to 1")

    def filled(self, *said: Mapping[str, float]) -> DubSettings:
        """With a value for everything of `SAMPLING` (but for the steps of a schedule that has its own), from the first
        of `said` that has one."""
        values: dict[str, Any] = {}
        for name in SAMPLING:
            if getattr(self, name) is None and not (name == "steps" and self.schedule == "distilled"):
                found = next((one[name] for one in (*said, _OFF) if name in one), None)
                values[name] = int(found) if name == "steps" and found is not None else found
        for name in _SOUND_AS_PICTURE:
            if values.get(f"audio_{name}", 0.0) is None:
                values[f"audio_{name}"] = values.get(name, getattr(self, name))
        return replace(self, **values)


def check_sampling(sampling: Mapping[str, float], where: str) -> None:
    """Refuse what no dub can be sampled with; `where` names it in the error."""
    if unknown := sorted(set(sampling) - set(SAMPLING)):
        raise UsageError(f"{where} has {unknown[0]!r}", expected=", ".join(SAMPLING))
    DubSettings().filled(sampling)


def check_length(info: Any) -> None:
    """Refuse clips that are too long for one pass."""
    if info.duration > MAX_SECONDS:
        raise BadInputError(
            f"{info.path} is {float(info.duration):.1f} s long",
            expected=f"at most {MAX_SECONDS:.0f} s, what the model sees in one pass",
            remedy=f"cut it first, for example: ffmpeg -i IN -t {MAX_SECONDS:.0f} OUT",
        )
