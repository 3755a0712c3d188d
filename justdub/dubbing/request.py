"""What the user asked for, checked before anything heavy is loaded.

Light on purpose: no torch. A wrong file or flag is answered in a second, and before an output folder is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from justdub.dubbing.prompt import Prompt, choose_prompt
from justdub.dubbing.settings import DubSettings, check_length
from justdub.dubbing.size import parse_size
from justdub.errors import MissingError, UsageError
from justdub.lora.profiles import Profile, profile_of
from justdub.lora.reference import Strength, parse_reference
from justdub.lora.shelf import find
from justdub.media import ClipInfo, check_output, probe

# A cheap bound, 8 characters for each of LTX-2's 1024 tokens; the exact count is the tokenizer's, once it is loaded.
MAX_PROMPT_CHARACTERS = 8192


@dataclass(frozen=True)
class Request:
    """A checked call of `justdub dub`.

    `refiner`: of two stages, the upsampler's path and the refining adapter.
    """

    clip: ClipInfo
    output: Path
    prompt: Prompt
    settings: DubSettings
    adapters: tuple[tuple[Path, Strength], ...]
    profile: Profile | None
    refiner: tuple[Path, tuple[Path, Strength] | None] | None
    warnings: tuple[str, ...]


def check_request(arguments: Any) -> Request:
    """Check the arguments of `justdub.cli.dub` (an argparse namespace), cheapest first."""
    prompt = choose_prompt(arguments.prompt, arguments.text, arguments.language, arguments.speaker)
    if len(prompt.text) > MAX_PROMPT_CHARACTERS:
        raise UsageError(
            f"a prompt of {len(prompt.text)} characters",
            expected=f"at most {MAX_PROMPT_CHARACTERS}, and no more tokens than the backbone reads",
            remedy="one clip's dialogue, not a script",
        )
    profile = None if arguments.profile is None else profile_of(arguments.profile)
    if profile is not None and not arguments.adapter:
        raise UsageError(f"--profile {profile.name} without --adapter", expected="the adapter that it is for")
    two_stage = arguments.two_stage if arguments.two_stage != "default" else "justdubit"
    implied = {} if profile is None else profile.settings(two_stage=arguments.two_stage == "default")
    asked = {name: getattr(arguments, name) for name in ("steps", "schedule", "guidance", "audio_guidance")}
    settings = DubSettings(
        **{"schedule": "ltx2", "two_stage": two_stage}
        | implied
        | {name: value for name, value in asked.items() if value is not None},
        seed=arguments.seed,
        reference_guidance=arguments.reference_guidance,
        audio_reference_guidance=arguments.audio_reference_guidance,
        joint_guidance=arguments.joint_guidance,
        audio_joint_guidance=arguments.audio_joint_guidance,
        modality_guidance=arguments.modality_guidance,
        stg=arguments.stg,
        rescale=arguments.rescale,
        negative_prompt=arguments.negative_prompt,
        size=parse_size(arguments.size) if arguments.size else None,
        keep_first_frame=arguments.keep_first_frame,
        reference=arguments.reference,
        cache=not arguments.no_cache and arguments.cache != "off",
        cache_place="device" if arguments.cache in (None, "off") else arguments.cache,
        refine_keep_adapter=arguments.refine_keep_adapter,
    )
    refiner = _check_refiner(arguments)
    warnings = []
    adapters = tuple(_parse_adapter(text) for text in arguments.adapter)
    clip = probe(arguments.input)
    check_length(clip)
    output = Path(arguments.output)
    check_output(output, inputs=[clip.path])
    if not prompt.has_dialogue:
        warnings.append(
            'the prompt quotes no dialogue; say what is to be said: The woman is speaking French, saying: "..."'
        )
    if refiner is not None and refiner[1] is None and settings.two_stage == "justdubit":
        warnings.append("no --refine-adapter: the few steps of stage 2 are meant for distilled weights")
    return Request(clip, output, prompt, settings, adapters, profile, refiner, tuple(warnings))


def _check_refiner(arguments: Any) -> tuple[Path, tuple[Path, Strength] | None] | None:
    if arguments.two_stage is None:
        for option in ("upsampler", "refine_adapter"):
            if getattr(arguments, option) is not None:
                raise UsageError(f"--{option.replace('_', '-')} without a second stage", remedy="add --two-stage")
        return None
    if arguments.upsampler is None:
        raise UsageError("--two-stage without --upsampler", expected="the latent x2 upsampler, a file or a folder")
    upsampler = Path(arguments.upsampler).expanduser()
    if not upsampler.exists():
        raise MissingError(f"upsampler {upsampler} does not exist", expected="a .safetensors file or a folder")
    return upsampler, None if arguments.refine_adapter is None else _parse_adapter(arguments.refine_adapter)


def _parse_adapter(text: str) -> tuple[Path, Strength]:
    reference = parse_reference(text)
    return find(reference.name), reference.strength
