"""Adapters for tests: random factors for the tiny transformer, files for the bundled backbone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import models
import torch
from safetensors import safe_open

from justdub.lora.config import MODULES as BLOCK_MODULES
from justdub.lora.files import AdapterFile, Factors, read, write
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules

MODULES = ("attn1.to_q", "attn1.to_v", "audio_attn1.to_v", "audio_to_video_attn.to_v", "ff.net.2")
EVERYWHERE = tuple(f"transformer_blocks.{block}.{module}" for block in range(2) for module in BLOCK_MODULES)


def random_factors(
    model, names: Iterable[str] = EVERYWHERE, *, rank: int = 3, ranks: int = 1, seed: int = 0, scale: float = 0.2
) -> dict[str, Factors]:
    """Factors for modules of `model`; ranks go round from `rank` to `rank + ranks - 1`."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for index, name in enumerate(names):
        linear, r = model.get_submodule(name), rank + index % ranks
        down = torch.randn(r, linear.in_features, generator=generator) * scale
        up = torch.randn(linear.out_features, r, generator=generator) * scale
        made[name] = Factors(down, up)
    return made


def save(path: Path, factors: dict[str, Factors], metadata: AdapterMetadata | None = None, **kwargs) -> AdapterFile:
    """Written in float32 and read back."""
    write(path, factors, metadata or AdapterMetadata(), dtype=torch.float32, **kwargs)
    return read(path)


def deltas(adapter: AdapterFile) -> dict[str, torch.Tensor]:
    return {name: factors.delta() for name, factors in adapter.modules.items()}


def output(model, *, seed: int = 2) -> torch.Tensor:
    """Velocities of both streams as one vector, of a tiny `JointTransformer` on fixed noise."""
    plan, text = models.plan(model, seed=seed), models.text_context()
    half_B = torch.ones(1) * 0.5
    with torch.no_grad():
        velocity = model.velocity(plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, half_B, half_B), text)
    return torch.cat([velocity.video_BNC.flatten(), velocity.audio_BNC.flatten()])


def write_adapter(
    path: Path, *, rules: SequenceRules | None = None, scale: float = 0.3, width_factor: int = 1, **said
) -> Path:
    """A random rank-4 adapter that fits the bundled transformer (or, with `width_factor`, does not).

    Args:
        said: more of its `AdapterMetadata`.
    """
    (weights,) = (models.mini_folder() / "transformer").glob("*.safetensors")
    generator = torch.Generator().manual_seed(0)
    factors = {}
    with safe_open(weights, framework="pt") as file:
        for name in MODULES:
            module = f"transformer_blocks.0.{name}"
            wide, narrow = (n * width_factor for n in file.get_slice(f"{module}.weight").get_shape())
            down, up = (torch.randn(shape, generator=generator) * scale for shape in ((4, narrow), (wide, 4)))
            factors[module] = Factors(down, up)
    write(path, factors, AdapterMetadata(rules=rules or SequenceRules(), **said))
    return path
