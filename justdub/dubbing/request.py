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
from justdub.errors import UsageError
from justdub.lora.library import find
from justdub.lora.reference import Strength, parse_reference
from justdub.media import ClipInfo, check_output, probe

# A cheap bound, 8 characters for each of LTX-2's 1024 tokens; the exact count is the tokenizer's, once it is loaded.
MAX_PROMPT_CHARACTERS = 8192


@dataclass(frozen=True)
class Request:
    """A checked call of `justdub dub`."""

    clip: ClipInfo
    output: Path
    prompt: Prompt
    settings: DubSettings
    adapters: tuple[tuple[Path, Strength], ...]
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
    settings = DubSettings(
        seed=arguments.seed,
        steps=arguments.steps,
        schedule=arguments.schedule,
        guidance=arguments.guidance,
        audio_guidance=arguments.audio_guidance,
        reference_guidance=arguments.reference_guidance,
        modality_guidance=arguments.modality_guidance,
        stg=arguments.stg,
        rescale=arguments.rescale,
        negative_prompt=arguments.negative_prompt,
        size=parse_size(arguments.size) if arguments.size else None,
        keep_first_frame=arguments.keep_first_frame,
        reference=arguments.reference,
        cache=not arguments.no_cache,
    )
    adapters = tuple(_parse_adapter(text) for text in arguments.adapter)
    clip = probe(arguments.input)
    check_length(clip)
    output = Path(arguments.output)
    check_output(output, inputs=[clip.path])
    warnings = []
    if not prompt.has_dialogue:
        warnings.append(
            'the prompt quotes no dialogue; say what is to be said: The woman is speaking French, saying: "..."'
        )
    return Request(clip, output, prompt, settings, adapters, tuple(warnings))


def _parse_adapter(text: str) -> tuple[Path, Strength]:
    reference = parse_reference(text)
    return find(reference.name), reference.strength
