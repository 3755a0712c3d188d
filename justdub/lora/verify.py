"""Try an adapter on its base: does it fit, is it finite, does it change anything?

One tiny real forward pass is run without it and one with it.

Letters: B batch, C channels, F/H/W latent frames/height/width.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from justdub.backbone.checkpoint import Backbone
from justdub.backbone.transformer import Velocity
from justdub.errors import BadInputError
from justdub.lora.files import AdapterFile, check_fit
from justdub.lora.rack import AdapterRack
from justdub.sequence import SequencePlan, SequenceRules, plan_sequence

PROMPT = 'The person is speaking, saying: "One, two, three."'
LATENT_FRAMES, TOKENS_A_SIDE, SIGMA = 2, 2, 0.7


@dataclass(frozen=True)
class Verification:
    """An adapter that works.

    Attributes:
        modules: that it changes; zero: of these, how many have a B of zeros.
        video, audio: change of the predicted velocity of each stream, relative to its size without the adapter.
        notice: for the user, empty for none.
    """

    modules: int
    zero: int
    video: float
    audio: float
    notice: str


def verify(backbone: Backbone, adapter: AdapterFile, *, any_base: bool = False) -> Verification:
    """Load the adapter on a backbone without adapters, run both, and take it off again.

    Raises:
        BadInputError: another base, values that are not finite, or an adapter that does nothing.
    """
    check_fit(backbone.transformer.module, adapter)
    halves = [half for factors in adapter.modules.values() for half in (factors.down_rI, factors.up_Or)]
    if broken := sum(not torch.isfinite(half).all() for half in halves):
        raise BadInputError(
            f"adapter {adapter.path} has values that are not finite in {broken} of {len(halves)} factors",
            remedy="an earlier state of its training",
        )
    zero = sum(not f.up_Or.any() or not f.down_rI.any() for f in adapter.modules.values())
    if zero == len(adapter.modules):
        raise BadInputError(f"adapter {adapter.path} does nothing: every B is zero", expected="a trained adapter")
    rack = AdapterRack(backbone)
    plan = _plan(backbone, adapter.rules or rack.rules)
    before = _run(backbone, plan)
    name = rack.load(adapter, any_base=any_base)
    notice = rack.adapters[name].notice
    try:
        after = _run(backbone, plan)
    finally:
        rack.unload()
    video, audio = _change(before.video_BNC, after.video_BNC), _change(before.audio_BNC, after.audio_BNC)
    if not np.isfinite([video, audio]).all():
        raise BadInputError(f"adapter {adapter.path} makes the backbone's output infinite or not a number")
    if video == 0 and audio == 0:
        raise BadInputError(f"adapter {adapter.path} does nothing: the output is the same without it")
    return Verification(len(adapter.modules), zero, video, audio, notice)


def _plan(backbone: Backbone, rules: SequenceRules) -> SequencePlan:
    """The smallest clip with all four kinds of tokens, of noise."""
    geometry, device = backbone.transformer.geometry, backbone.transformer.device
    generator = torch.Generator().manual_seed(0)
    factor = rules.reference_downscale
    audio = backbone.audio_codec
    frames = 1 + (LATENT_FRAMES - 1) * geometry.frames_per_latent
    samples = round(frames / 25 * audio.sample_rate)
    audio_BCTM = audio.encode(np.zeros((audio.channels, samples), np.float32))  # of its shape

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    side, channels = geometry.patch * TOKENS_A_SIDE, backbone.video_codec.latent_channels
    return plan_sequence(
        video_target_BCFHW=noise(1, channels, LATENT_FRAMES, side * factor, side * factor),
        audio_target_BCTM=noise(*audio_BCTM.shape),
        video_reference_BCFHW=noise(1, channels, LATENT_FRAMES, side, side),
        audio_reference_BCTM=noise(*audio_BCTM.shape),
        frame_rate=Fraction(25),
        geometry=geometry,
        rules=rules,
    )


@torch.no_grad()
def _run(backbone: Backbone, plan: SequencePlan) -> Velocity:
    sigma_B = torch.tensor([SIGMA], device=backbone.transformer.device)
    sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B)
    return backbone.transformer.velocity(sequence, backbone.text.encode(PROMPT)).target(sequence)


def _change(before: Tensor, after: Tensor) -> float:
    before, after = before.float(), after.float()
    return ((after - before).norm() / before.norm().clamp(min=1e-12)).item()
