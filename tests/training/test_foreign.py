"""JUST-DUB-IT's own YAML: accepted unchanged, every key reported, nothing silently different."""

from __future__ import annotations

import copy

import pytest
import yaml

from justdub import jobs
from justdub.errors import UsageError
from justdub.lora.config import MODULES
from justdub.training.config import TrainJob
from justdub.training.foreign import load_job, translate

# The keys and values of the trainer's justdubit.yaml, without its comments.
THEIRS = {
    "model": {
        "model_path": "/path/to/ltx-av-checkpoint.safetensors", "text_encoder_path": "/path/to/gemma-text-encoder",
        "training_mode": "lora", "load_checkpoint": None,
    },
    "lora": {
        "rank": 128, "alpha": 128, "dropout": 0.0,
        "target_modules": ["to_k", "to_q", "to_v", "to_out.0", "net.0.proj", "net.2"],
    },
    "training_strategy": {
        "name": "justdubit", "first_frame_conditioning_p": 0.1, "with_audio": True,
        "enable_cross_attention_masking": True, "audio_latents_dir": "audio_latents",
        "reference_latents_dir": "reference_latents", "reference_audio_latents_dir": "reference_audio_latents",
        "mask_config": {
            "mask_dir": "masks", "use_masked_loss": True, "mask_loss_weight": 1.0, "background_loss_weight": 0.1,
            "mask_threshold": 0.1, "use_soft_masks": False,
        },
    },
    "optimization": {
        "learning_rate": "2e-4", "learning_rate_groups": {"audio_attn": "1e-6", "audio_ff": "1e-6"}, "steps": 2000,
        "batch_size": 1, "gradient_accumulation_steps": 1, "max_grad_norm": 1.0, "optimizer_type": "adamw",
        "scheduler_type": "linear", "scheduler_params": {}, "enable_gradient_checkpointing": True,
    },
    "acceleration": {"mixed_precision_mode": "bf16", "quantization": None, "load_text_encoder_in_8bit": False},
    "data": {"preprocessed_data_root": "/path/to/your/preprocessed/data/.precomputed", "num_dataloader_workers": 2},
    "validation": {
        "prompts": ["The woman is speaking in English, saying: 'Hello.'"], "reference_videos": ["references/one.mp4"],
        "negative_prompt": "worst quality", "images": None, "video_dims": [640, 352, 121], "frame_rate": 25.0,
        "seed": 42, "inference_steps": 30, "interval": 100, "videos_per_prompt": 1,
        "include_reference_in_output": True, "guidance_scale": 3.0, "stg_scale": 1.0, "stg_blocks": [29],
        "stg_mode": "stg_av", "generate_audio": True, "skip_initial_validation": False,
        "enable_cross_attention_masking": True,
    },
    "checkpoints": {"interval": 250, "keep_last_n": -1},
    "flow_matching": {"timestep_sampling_mode": "shifted_logit_normal", "timestep_sampling_params": {}},
    "hub": {"push_to_hub": False, "hub_model_id": None},
    "wandb": {"enabled": False, "project": "justdubit", "entity": None, "tags": ["ltx2"]},
    "seed": 42,
    "output_dir": "outputs/justdubit",
}  # fmt: skip


def changed(path: str, value) -> dict:
    tree = copy.deepcopy(THEIRS)
    *parents, last = path.split(".")
    section = tree
    for name in parents:
        section = section[name]
    section[last] = value
    return tree


def leaves(tree: dict) -> int:
    return sum(leaves(value) if isinstance(value, dict) and value else 1 for value in tree.values())


def test_the_published_job_means_what_it_says():
    mapped, notes = translate(THEIRS)
    job = jobs.build(TrainJob, mapped)
    assert job.backbone == "/path/to/ltx-av-checkpoint.safetensors" and job.out == "outputs/justdubit"
    assert job.lora.modules == MODULES and (job.lora.rank, job.lora.alpha) == (128, 128.0)
    slow = {module for module in MODULES if job.optimizer.rate_of(module) == 1e-6}
    heads = {module.split(".")[0] for module in slow}
    assert heads == {"audio_attn1", "audio_attn2", "audio_ff", "video_to_audio_attn"}, "as its search finds them"
    assert job.optimizer.rate == 2e-4 and len(slow) == 14
    assert (job.optimizer.schedule, job.optimizer.floor, job.optimizer.warmup) == ("linear", 0.1, 0)
    assert (job.rules.cross_modal, job.rules.reference, job.rules.audio_positions) == (
        "target_only", "bidirectional", "shared",
    )  # fmt: skip
    assert (job.noise.sampler, job.noise.first_frame, job.noise.apart) == ("shifted_logit_normal", 0.1, 0.0)
    assert (job.dropout.no_text, job.dropout.no_reference, job.dropout.nothing) == (0, 0, 0)
    assert (job.loss.foreground, job.loss.background, job.loss.threshold) == (1.0, 0.1, 0.1)
    assert (job.train.steps, job.train.dtype, job.train.checkpointing) == (2000, "bfloat16", True)
    assert job.data.precomputed.endswith(".precomputed") and job.checkpoint.every == 250
    assert job.preview.clips[0].input == "references/one.mp4" and job.preview.every == 100
    assert len(notes) == leaves(THEIRS), "a line for every key"


def test_it_is_recognised_in_a_file_and_changed_by_either_names(tmp_path):
    path = tmp_path / "justdubit.yaml"
    path.write_text(yaml.safe_dump(THEIRS))
    job, notes = load_job(path, ["optimization.steps=7", "train.batch=3", "data.preprocessed_data_root=here"])
    assert (job.train.steps, job.train.batch, job.data.precomputed) == (7, 3, "here")
    assert "JUST-DUB-IT" in notes[0]
    own = tmp_path / "own.yaml"
    own.write_text("out: here\ndata: {list: pairs.json}\n")
    job, notes = load_job(own, ["train.steps=9"])
    assert job.train.steps == 9 and notes == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model.training_mode", "full", "model.training_mode is 'full'"),
        ("training_strategy.with_audio", False, "with_audio is False"),
        ("training_strategy.mask_config.use_soft_masks", True, "use_soft_masks"),
        ("lora.target_modules", ["to_gate_logits"], "to_gate_logits"),
        ("optimization.scheduler_type", "polynomial", "polynomial"),
        ("acceleration.quantization", "int8-quanto", "int8-quanto"),
        ("acceleration.mixed_precision_mode", "fp16", "fp16"),
        ("optimization.learning_rates", 1, "unknown key optimization.learning_rates"),
    ],
)
def test_what_it_cannot_mean_here_is_refused_by_name(path, value, said):
    with pytest.raises(UsageError, match=said):
        translate(changed(path, value))


def test_a_rule_that_is_off_is_off():
    mapped, _ = translate(changed("training_strategy.enable_cross_attention_masking", False))
    assert jobs.build(TrainJob, mapped).rules.cross_modal == "full"
    mapped, _ = translate(changed("training_strategy.mask_config.use_masked_loss", False))
    loss = jobs.build(TrainJob, mapped).loss
    assert loss.foreground == loss.background == 1.0


def test_short_patterns_match_as_peft_does():
    mapped, _ = translate(changed("lora.target_modules", ["to_k", "ff.net.2", "audio_attn1.to_q"]))
    modules = jobs.build(TrainJob, mapped).lora.modules
    assert "ff.net.2" in modules and "audio_ff.net.2" not in modules
    assert {m for m in modules if m.endswith("to_q")} == {"audio_attn1.to_q"}
    assert sum(m.endswith("to_k") for m in modules) == 6
