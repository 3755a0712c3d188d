"""A clip of random latents and a prompt of random features, laid out as the program lays them out.

Letters: B batch, C channels, F/H/W video latents' grid, T audio latents, M mel bins, N tokens, L text tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.ltx2.scale import AUDIO_CHANNELS, FRAME_RATE, MEL_BINS, VIDEO_CHANNELS, Resolution, Scale
from justdub.backbone.text import TextContext
from justdub.sequence import Sequence, SequencePlan, SequenceRules, plan_sequence
from justdub.tokens import Geometry

SIGMA = 0.7


def latents(resolution: Resolution, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    """(1, C, F, H, W) and (1, C, T, M), float32."""
    torch.manual_seed(seed)
    video_BCFHW = torch.randn(1, VIDEO_CHANNELS, *resolution.grid, device=device)
    return video_BCFHW, torch.randn(1, AUDIO_CHANNELS, resolution.audio_latents, MEL_BINS, device=device)


def plan(geometry: Geometry, resolution: Resolution, device: torch.device, rules: SequenceRules) -> SequencePlan:
    """A target and a reference of its size."""
    (video, audio), (video_reference, audio_reference) = (latents(resolution, device, seed) for seed in (1, 2))
    return plan_sequence(
        video_target_BCFHW=video,
        audio_target_BCTM=audio,
        video_reference_BCFHW=video_reference,
        audio_reference_BCTM=audio_reference,
        frame_rate=FRAME_RATE,
        geometry=geometry,
        rules=rules,
    )


def noisy(laid_out: SequencePlan) -> Sequence:
    """One step of it, the same noise for every plan of these shapes."""
    torch.manual_seed(3)
    video_BNC, audio_BNC = torch.randn_like(laid_out.video.clean_BNC), torch.randn_like(laid_out.audio.clean_BNC)
    sigma_B = torch.full((1,), SIGMA, device=video_BNC.device)
    return laid_out.at(video_BNC, audio_BNC, sigma_B, sigma_B)


def prompt(scale: Scale, device: torch.device) -> TextContext:
    """Without a mask, as connectors with registers give it."""
    torch.manual_seed(4)
    video_BLD, audio_BLD = torch.randn(2, 1, scale.text_tokens, scale.transformer["caption_channels"], device=device)
    return TextContext(video_BLD, audio_BLD)
