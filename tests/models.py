"""Small random models for tests: the real classes, widths of a few dozen."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from torch import Tensor

from justdub.backbone.text import TextContext
from justdub.backbone.transformer import JointTransformer
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence

GENERATIONS = {
    "2.0": {},
    # Per-head output gates, text modulation by the noise level: LTX-2.3.
    "2.3": {
        "gated_attn": True,
        "audio_gated_attn": True,
        "cross_attn_mod": True,
        "audio_cross_attn_mod": True,
        "perturbed_attn": True,
    },
}
TEXT_WIDTH = 24


def tiny_transformer(generation: str = "2.0", *, rope_type: str = "split", layers: int = 2, seed: int = 0):
    """A transformer whose every parameter is random (zero-initialised gates would hide leaks)."""
    torch.manual_seed(seed)
    model = LTX2VideoTransformer3DModel(
        in_channels=6,
        out_channels=6,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        audio_in_channels=8,
        audio_out_channels=8,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=layers,
        caption_channels=TEXT_WIDTH,
        rope_type=rope_type,
        **GENERATIONS[generation],
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5))
    return model.requires_grad_(False).eval()


def joint(generation: str = "2.0", **kwargs) -> JointTransformer:
    return JointTransformer(tiny_transformer(generation, **kwargs))


def text_context(batch: int = 1, tokens: int = 5, *, seed: int = 1) -> TextContext:
    generator = torch.Generator().manual_seed(seed)
    video, audio = (torch.randn(batch, tokens, TEXT_WIDTH, generator=generator) for _ in range(2))
    return TextContext(video, audio)


def plan(
    model: JointTransformer,
    rules: SequenceRules = SequenceRules(),  # noqa: B008 (frozen)
    *,
    batch: int = 1,
    grid: tuple[int, int, int] = (3, 2, 2),
    steps: int = 7,
    seed: int = 2,
    reference: bool = True,
    **tensors: Tensor,
) -> SequencePlan:
    """A plan with random latents; any of its tensors can be passed in."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "video_target_BCFHW": (batch, 6, *grid),
        "audio_target_BCTM": (batch, 2, steps, 4),
        "video_reference_BCFHW": (batch, 6, *grid),
        "audio_reference_BCTM": (batch, 2, steps, 4),
    }
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    if not reference:
        made |= {"video_reference_BCFHW": None, "audio_reference_BCTM": None}
    return plan_sequence(**(made | tensors), frame_rate=Fraction(25), geometry=model.geometry, rules=rules)


@cache
def mini_folder() -> Path:
    """The bundled backbone's folder."""
    from justdub.backbone.checkpoint import find

    return find("mini")
