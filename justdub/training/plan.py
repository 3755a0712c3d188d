"""What a job would do, before it does it: clips, tokens, parameters, memory, steps. No weights are read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from justdub.backbone import checkpoint as backbones
from justdub.backbone import eight_bits
from justdub.backbone.count import configs_of
from justdub.lora import inject
from justdub.lora.config import family, group
from justdub.tokens import Geometry
from justdub.training.cache import Cut
from justdub.training.config import TrainJob

_ADAM = 4  # copies of a trained parameter in float32: itself, its gradient, two moments
# What a block keeps for its backward pass, in widths of its stream per token, attention matrices apart; and what is
# kept of a block that is run again (benchmarks/training_memory.py counts them).
_KEPT, _KEPT_CHECKPOINTED = 44, 3


@dataclass(frozen=True)
class Plan:
    """sequences: of each shape of clips, (clips, video target tokens, audio target tokens).

    trained: parameters by (group, family). memory: estimated peak in bytes, by what it is for.
    """

    job: TrainJob
    clips: int
    faults: int
    sequences: tuple[tuple[int, int, int], ...]
    trained: dict[tuple[str, str], int]
    frozen: int
    memory: dict[str, int]

    def text(self) -> str:
        job, total = self.job, sum(self.trained.values())
        lines = [f"job        {job.out} on {job.backbone}, recipe {job.digest()[:12]}"]
        lines.append(f"clips      {self.clips} usable, {self.faults} left out")
        for count, video, audio in self.sequences:
            lines.append(
                f"tokens     {count} clips of {video} video and {audio} audio target tokens, and their reference"
            )
        size = job.train.batch * job.train.accumulate
        epochs = job.train.steps * size / max(1, self.clips)
        lines.append(
            f"steps      {job.train.steps} updates of {job.train.batch} x {job.train.accumulate} clips a process"
            f" = {epochs:.1f} epochs"
        )
        lines.append(f"trained    {_count(total)} of {_count(self.frozen + total)} parameters")
        for (stream, kind), count in sorted(self.trained.items()):
            lines.append(f"           {stream:6s} {kind:22s} {_count(count)}")
        lines.append(f"memory     about {_bytes(sum(self.memory.values()))} at the peak")
        for name, size in self.memory.items():
            lines.append(f"           {name:29s} {_bytes(size)}")
        return "\n".join(lines)


def plan(job: TrainJob, clips: int, faults: int, shapes: Counter) -> Plan:
    """The plan of a job.

    Args:
        shapes: how many clips there are of each (video target tokens, audio target tokens).
    """
    folder = backbones.find(job.backbone)
    module = meta_transformer(folder)
    frozen, stored = sum(p.numel() for p in module.parameters()), _stored(job, module)
    inject.inject(module, job.lora, "planned")
    trained: Counter = Counter()
    for name, parameter in inject.trained(module, "planned"):
        trained[group(name), family(name)] += parameter.numel()
    sequences = tuple((count, video, audio) for (video, audio), count in sorted(shapes.items()))
    return Plan(job, clips, faults, sequences, dict(trained), frozen, _memory(job, module, stored, trained, shapes))


def tokens_of(cut: Cut, frame_rate: Fraction, geometry: Geometry) -> tuple[int, int]:
    """Video and audio target tokens of a clip."""
    pixels = geometry.pixels_per_token
    video = geometry.latent_frames(cut.frames) * (cut.height // pixels) * (cut.width // pixels)
    mels = 1 + round(cut.frames / frame_rate * geometry.sample_rate) // geometry.hop_length
    return video, -(-mels // geometry.mels_per_latent)


def meta_transformer(path: Path) -> torch.nn.Module:
    """A backbone's transformer without its weights; path: a folder, or an official single file."""
    with torch.device("meta"):
        return configs_of(path).build("transformer")


def _wide(job: TrainJob) -> int:
    """Bytes of a number."""
    half = job.train.dtype in ("bfloat16", "float16") or (job.train.dtype == "auto" and torch.cuda.is_available())
    return 2 if half else 4


def _stored(job: TrainJob, module: torch.nn.Module) -> int:
    """Bytes of the frozen weights."""
    total = _wide(job) * sum(p.numel() for p in module.parameters())
    if job.train.quantization == "fp8":
        for _, linear in eight_bits.linears(module):
            total -= _wide(job) * sum(p.numel() for p in linear.parameters()) - eight_bits.stored_bytes(linear)
    return total


def _memory(job: TrainJob, module: torch.nn.Module, stored: int, trained: Counter, shapes: Counter) -> dict[str, int]:
    """Bytes of the transformer, the adapter's training and the activations of the longest batch."""
    wide = _wide(job)
    video, audio = max(shapes, default=(0, 0))
    return {
        "frozen transformer": stored,
        "adapter, gradients, optimizer": sum(trained.values()) * 4 * _ADAM,
        "activations": activation_bytes(module.config, video, audio, job.train.batch, wide, job.train.checkpointing),
    }


def activation_bytes(config: Any, video: int, audio: int, batch: int, wide: int, checkpointing: bool) -> int:
    """Bytes kept for the backward pass, with a reference as long as the target.

    Args:
        video, audio: target tokens. wide: bytes of a number.
    """
    width = config.num_attention_heads * config.attention_head_dim
    audio_width = config.audio_num_attention_heads * config.audio_attention_head_dim
    per_unit = 2 * (video * width + audio * audio_width) * batch * wide
    blocks = config.num_layers
    return per_unit * (blocks * _KEPT_CHECKPOINTED + _KEPT if checkpointing else blocks * _KEPT)


def _count(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def _bytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"
