"""Adapter files for tests, made for the bundled backbone."""

from __future__ import annotations

from pathlib import Path

import models
import torch
from safetensors import safe_open

from justdub.lora.files import Factors, write
from justdub.lora.metadata import AdapterMetadata
from justdub.sequence import SequenceRules

MODULES = ("attn1.to_q", "attn1.to_v", "audio_attn1.to_v", "audio_to_video_attn.to_v", "ff.net.2")


def write_adapter(path: Path, *, rules: SequenceRules | None = None, scale: float = 0.3, width_factor: int = 1) -> Path:
    """A random rank-4 adapter that fits the bundled transformer (or, with `width_factor`, does not)."""
    (weights,) = (models.mini_folder() / "transformer").glob("*.safetensors")
    generator = torch.Generator().manual_seed(0)
    factors = {}
    with safe_open(weights, framework="pt") as file:
        for name in MODULES:
            module = f"transformer_blocks.0.{name}"
            wide, narrow = (n * width_factor for n in file.get_slice(f"{module}.weight").get_shape())
            down, up = (torch.randn(shape, generator=generator) * scale for shape in ((4, narrow), (wide, 4)))
            factors[module] = Factors(down, up)
    write(path, factors, AdapterMetadata(rules=rules or SequenceRules()))
    return path
