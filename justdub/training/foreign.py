"""Jobs of JUST-DUB-IT's trainer as jobs of this program: its YAML is accepted unchanged, key by key.

Every key is mapped or ignored, and each is reported; a key that asks for something else than training a dubbing adapter
is refused. Sources: the trainer's configuration reference and its `justdubit.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from justdub import jobs
from justdub.errors import UsageError
from justdub.lora.config import MODULES, expand
from justdub.training.config import TrainJob

_KEEP_ALL = 1_000_000
_PRECISION = {"bf16": "bfloat16", "no": "float32", None: "float32"}
# Theirs -> ours, values as they are.
_SAME = {
    "model.model_path": "backbone",
    "lora.rank": "lora.rank",
    "lora.dropout": "lora.dropout",
    "training_strategy.first_frame_conditioning_p": "noise.first_frame",
    "optimization.learning_rate": "optimizer.rate",
    "optimization.steps": "train.steps",
    "optimization.batch_size": "train.batch",
    "optimization.gradient_accumulation_steps": "train.accumulate",
    "optimization.max_grad_norm": "optimizer.clip",
    "optimization.optimizer_type": "optimizer.name",
    "optimization.enable_gradient_checkpointing": "train.checkpointing",
    "data.preprocessed_data_root": "data.precomputed",
    "validation.seed": "preview.seed",
    "validation.inference_steps": "preview.steps",
    "checkpoints.interval": "checkpoint.every",
    "flow_matching.timestep_sampling_mode": "noise.sampler",
    "seed": "train.seed",
    "output_dir": "out",
}
# Keys whose only accepted value is this one: anything else is another kind of training.
_ONLY = {
    "model.training_mode": "lora",
    "training_strategy.name": "justdubit",
    "training_strategy.with_audio": True,
    "training_strategy.mask_config.use_soft_masks": False,
    "training_strategy.audio_latents_dir": "audio_latents",
    "training_strategy.reference_latents_dir": "reference_latents",
    "training_strategy.reference_audio_latents_dir": "reference_audio_latents",
    "training_strategy.mask_config.mask_dir": "masks",
    "optimization.scheduler_params": {},
    "flow_matching.timestep_sampling_params": {},
}
# How it names the storage of the base's weights.
_QUANTIZATION = {None: "none", "fp8-quanto": "fp8", "fp8uz-quanto": "fp8"}
_IGNORED = {
    "model.text_encoder_path": "prompts are encoded already",
    "model.load_checkpoint": "an interrupted run goes on with --resume",
    "acceleration.load_text_encoder_in_8bit": "prompts are encoded already",
    "data.num_dataloader_workers": "latents are read as they are needed",
    "validation.negative_prompt": "the backbone's card has one",
    "validation.images": "the first frame follows the adapter's rule",
    "validation.video_dims": "previews have the reference's shape",
    "validation.frame_rate": "previews have the reference's rate",
    "validation.videos_per_prompt": "one",
    "validation.include_reference_in_output": "the picture of a preview shows it",
    "validation.stg_scale": "previews use prompt guidance alone",
    "validation.stg_blocks": "previews use prompt guidance alone",
    "validation.stg_mode": "previews use prompt guidance alone",
    "validation.generate_audio": "always",
    "validation.skip_initial_validation": "the untrained state is always shown",
    "validation.enable_cross_attention_masking": "previews follow the training's rule",
    "hub": "nothing is uploaded",
}


def load_job(path: Path, changes: list[str]) -> tuple[TrainJob, list[str]]:
    """The job in a YAML file of this program or of JUST-DUB-IT's trainer, and what there is to say about it.

    Args:
        changes: "a.b=value"; in a foreign file, by the keys of either program.
    """
    tree = jobs.read(path)
    if "training_strategy" not in tree:
        for text in changes:
            jobs.change(tree, text)
        return jobs.build(TrainJob, tree), []
    ours = []
    for text in changes:
        known = _has(tree, text.partition("=")[0].split("."))
        jobs.change(tree, text) if known else ours.append(text)
    mapped, notes = translate(tree)
    for text in ours:
        jobs.change(mapped, text)
    return jobs.build(TrainJob, mapped), [f"{path.name} is a job of JUST-DUB-IT's trainer", *notes]


def translate(tree: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """JUST-DUB-IT's settings as this program's, and a line for every key.

    Raises:
        UsageError: a key is unknown, or asks for what this program does not do.
    """
    # Its fixed choices: no condition dropout, one noise level for both streams, references that see the target.
    mapped: dict[str, Any] = {
        "dropout": {"no_text": 0.0, "no_reference": 0.0, "nothing": 0.0},
        "rules": {"reference": "bidirectional", "audio_positions": "shared"},
        "noise": {"apart": 0.0},
    }
    notes = []
    values = dict(_leaves(tree))
    for key, value in values.items():
        said = _one(key, value, mapped, values)
        notes.append(f"{key}: {said}")
    return mapped, notes


def _one(key: str, value: Any, mapped: dict[str, Any], values: dict[str, Any]) -> str:
    """Translate one key into `mapped`; says what became of it."""

    def put(ours: str, changed: Any) -> str:
        *parents, last = ours.split(".")
        section = mapped
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = changed
        return f"{ours} = {changed}"

    if key in _SAME:
        return put(_SAME[key], value) if value is not None else "as it is here by default"
    if key in _ONLY:
        if value != _ONLY[key]:
            raise UsageError(f"{key} is {value!r}", expected=repr(_ONLY[key]), remedy="a job of this program's own")
        return "as it is here"
    ignored = next((reason for name, reason in _IGNORED.items() if key == name or key.startswith(f"{name}.")), None)
    if ignored is not None:
        return f"ignored, {ignored}"
    if key == "lora.alpha":
        return put("lora.alpha", float(value))
    if key == "lora.target_modules":
        return put("lora.targets", _modules(value))
    if key == "training_strategy.enable_cross_attention_masking":
        return put("rules.cross_modal", "target_only" if value else "full")
    if key == "training_strategy.mask_config.use_masked_loss":
        if value:
            return "as it is here where a pair has a mask"
        put("loss.foreground", 1.0)
        return put("loss.background", 1.0)
    if key.startswith("training_strategy.mask_config."):
        if values.get("training_strategy.mask_config.use_masked_loss") is False:
            return "ignored, the loss is not masked"
        ours = {"mask_loss_weight": "foreground", "background_loss_weight": "background", "mask_threshold": "threshold"}
        if (name := ours.get(key.rpartition(".")[2])) is not None:
            return put(f"loss.{name}", float(value))
    if key.startswith("optimization.learning_rate_groups."):
        pattern = key.removeprefix("optimization.learning_rate_groups.")
        names = _matched(pattern, values)
        mapped.setdefault("optimizer", {}).setdefault("rates", {}).update(dict.fromkeys(names, float(value)))
        return f"optimizer.rates of {', '.join(names) or 'nothing'} = {float(value)}"
    if key == "optimization.learning_rate_groups":  # empty
        return "none"
    if key == "optimization.scheduler_type":
        if value not in ("constant", "linear", "cosine"):
            raise UsageError(f"{key} is {value!r}", expected="constant, linear or cosine")
        put("optimizer.floor", 0.0 if value == "cosine" else 0.1)
        return put("optimizer.schedule", value)
    if key == "acceleration.quantization":
        if value not in _QUANTIZATION:
            raise UsageError(f"{key} is {value!r}", expected="null, fp8-quanto or fp8uz-quanto")
        return put("train.quantization", _QUANTIZATION[value])
    if key == "acceleration.mixed_precision_mode":
        if value not in _PRECISION:
            raise UsageError(f"{key} is {value!r}", expected="bf16 or no")
        return put("train.dtype", _PRECISION[value])
    if key == "validation.prompts":
        references = values.get("validation.reference_videos") or []
        clips = [{"input": i, "prompt": p} for i, p in zip(references, value, strict=False)]
        return put("preview.clips", clips) if clips else "ignored, no reference_videos to dub"
    if key == "validation.reference_videos":
        return "with validation.prompts"
    if key == "validation.interval":
        return put("preview.every", value or 0)
    if key == "validation.guidance_scale":
        put("preview.audio_guidance", float(value))
        return put("preview.guidance", float(value))
    if key == "checkpoints.keep_last_n":
        return put("checkpoint.last", _KEEP_ALL if value == -1 else value)
    if key == "wandb.enabled":
        return put("log.to", ["wandb"]) if value else "no tracker"
    if key.startswith("wandb."):
        return "ignored, set in the tracker's environment"
    raise UsageError(f"unknown key {key} in a job of JUST-DUB-IT's trainer", expected="its own keys")


def _modules(patterns: list[str]) -> list[str]:
    """What peft's suffix matching makes of its patterns, within a block."""
    chosen = [m for m in MODULES if any(m == p or m.endswith(f".{p}") for p in patterns)]
    for pattern in patterns:
        if not any(m == pattern or m.endswith(f".{pattern}") for m in MODULES):
            raise UsageError(f"lora.target_modules has {pattern!r}, which is in no block", expected=", ".join(MODULES))
    return chosen


def _matched(pattern: str, values: dict[str, Any]) -> list[str]:
    """The modules whose rate a regular expression sets: those it is found in, and no earlier one is.

    "audio_attn" is found in video_to_audio_attn too.
    """
    prefix = "optimization.learning_rate_groups."
    patterns = [key.removeprefix(prefix) for key in values if key.startswith(prefix)]

    def first(module: str) -> str | None:
        return next((one for one in patterns if re.search(one, module)), None)

    heads = dict.fromkeys(module.split(".")[0] for module in MODULES)
    names = []
    for head in heads:
        hit = [module for module in expand(head) if first(module) == pattern]
        names += [head] if hit == list(expand(head)) else hit
    return names


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; an empty section is a value."""
    for name, value in tree.items():
        key = f"{path}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _has(tree: Any, names: list[str]) -> bool:
    for name in names:
        if not isinstance(tree, dict) or name not in tree:
            return False
        tree = tree[name]
    return True
