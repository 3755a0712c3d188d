"""Put trained parts together as one checkpoint folder in diffusers layout, in half precision, with its card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from justdub.backbone.checkpoint import Card
from justdub.errors import UsageError


@dataclass(frozen=True)
class AssembleJob:
    """`out`: the folder to write, replaced if there. The parts: folders as the other jobs leave them; `transformer`:
    the folder that holds transformer, connectors, text_encoder and tokenizer. `readme`: a text laid beside them."""

    out: str
    video_codec: str
    audio_codec: str
    vocoder: str
    transformer: str
    readme: str = ""
    card: Card = field(default_factory=Card)


def run(
    job: AssembleJob,
    *,
    resume: bool = False,
    finish_only: bool = False,
    report: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Write the folder; returns the megabytes of each part."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors, LTX2Vocoder
    from transformers import AutoTokenizer, Gemma3ForConditionalGeneration

    if resume or finish_only:
        raise UsageError("--resume or --finish with assemble", expected="neither: it takes a second")
    joint, half = Path(job.transformer), torch.bfloat16
    pipeline = LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLLTX2Video.from_pretrained(job.video_codec, torch_dtype=half),
        audio_vae=AutoencoderKLLTX2Audio.from_pretrained(job.audio_codec, torch_dtype=half),
        text_encoder=Gemma3ForConditionalGeneration.from_pretrained(joint / "text_encoder", dtype=half),
        tokenizer=AutoTokenizer.from_pretrained(joint / "tokenizer"),
        connectors=LTX2TextConnectors.from_pretrained(joint / "connectors", torch_dtype=half),
        transformer=LTX2VideoTransformer3DModel.from_pretrained(joint / "transformer", torch_dtype=half),
        vocoder=LTX2Vocoder.from_pretrained(job.vocoder, torch_dtype=half),
    )
    out = Path(job.out)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline.save_pretrained(partial)
    for config in partial.glob("*/config.json"):  # where a part was read from says nothing to others
        content = json.loads(config.read_text(encoding="utf-8"))
        content.pop("_name_or_path", None)
        config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (partial / "justdub.json").write_text(
        json.dumps(asdict(job.card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    if job.readme:
        shutil.copy(job.readme, partial / "README.md")
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    return {
        part.name: round(sum(file.stat().st_size for file in part.rglob("*") if file.is_file()) / 1e6, 2)
        for part in sorted(out.iterdir())
        if part.is_dir()
    }
