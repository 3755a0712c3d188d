"""Tokens, positions, roles and timesteps of the one builder."""

from __future__ import annotations

from dataclasses import replace

import models
import pytest
import torch

from justdub.errors import UsageError
from justdub.sequence import SequenceRules, plan_sequence
from justdub.tokens import Geometry

GEOMETRY = Geometry()


def test_a_plan_holds_reference_then_target() -> None:
    model = models.joint()
    plan = models.plan(model, batch=2)
    layout = plan.layout
    assert (layout.video.reference, layout.video.target, layout.audio.reference, layout.audio.target) == (12, 12, 7, 7)
    sigma_B = torch.tensor([0.3, 0.8])
    sequence = plan.at(plan.video.clean_BNC * 0 + 5, plan.audio.clean_BNC * 0 + 6, sigma_B, sigma_B / 2)
    assert torch.equal(sequence.video.tokens_BNC[:, :12], plan.video.reference_BRC)
    assert (sequence.video.tokens_BNC[:, 12:] == 5).all()
    assert (sequence.video.timesteps_BN[:, :12] == 0).all()
    assert torch.equal(sequence.video.timesteps_BN[:, 12:], sigma_B[:, None].expand(-1, 12))
    assert torch.equal(sequence.audio.timesteps_BN[:, 7:], (sigma_B / 2)[:, None].expand(-1, 7))
    positions = sequence.video.positions_BDN2
    assert torch.equal(positions[:, :, :12], positions[:, :, 12:])


def test_kept_first_frame_is_clean_per_sample() -> None:
    model = models.joint()
    target = torch.randn(2, 6, 3, 2, 2)
    plan = models.plan(model, batch=2, video_target_BCFHW=target)
    from justdub.sequence import plan_sequence

    kept = plan_sequence(
        video_target_BCFHW=target,
        audio_target_BCTM=torch.zeros(2, 2, 7, 4),
        video_reference_BCFHW=None,
        audio_reference_BCTM=None,
        frame_rate=25,
        geometry=model.geometry,
        rules=plan.rules,
        keep_first_frame_B=torch.tensor([True, False]),
    )
    one_B = torch.ones(2)
    sequence = kept.at(torch.zeros_like(kept.video.clean_BNC), torch.zeros(2, 7, 8), one_B, one_B)
    assert torch.equal(sequence.video.tokens_BNC[0, :4], kept.video.clean_BNC[0, :4])
    assert (sequence.video.tokens_BNC[0, 4:] == 0).all()
    assert (sequence.video.tokens_BNC[1] == 0).all()
    assert sequence.video.timesteps_BN[:, [0, 4]].tolist() == [[0, 1], [1, 1]]


def test_downscaled_reference_covers_the_targets_pixels() -> None:
    model = models.joint()
    rules = SequenceRules(reference_downscale=2)
    small = torch.randn(1, 6, 3, 1, 1)
    plan = models.plan(model, rules, video_reference_BCFHW=small)
    bounds = plan.video.positions_BDN2[0]
    assert plan.layout.video.reference == 3
    assert bounds[1:, :3].amin().item() == 0
    assert bounds[1:, :3].amax().item() == bounds[1:, 3:].amax().item() == 64


def test_without_reference_keeps_the_target_as_it_is() -> None:
    model = models.joint()
    plan = models.plan(model)
    bare = plan.without_reference()
    assert bare.layout.video.reference == bare.layout.audio.reference == 0
    assert torch.equal(bare.video.positions_BDN2, plan.video.positions_BDN2[:, :, 12:])
    assert plan.has_reference
    assert not bare.has_reference


def test_mismatched_parts_are_refused() -> None:
    model = models.joint()
    with pytest.raises(UsageError, match="video reference"):
        models.plan(model, video_reference_BCFHW=torch.randn(1, 5, 3, 2, 2))


@pytest.mark.parametrize(
    "rules",
    [
        {"cross_modal": "some"},
        {"reference": "both"},
        {"audio_positions": "bf16"},
        {"reference_downscale": 0},
        {"reference": "isolated", "cross_modal": "full"},
    ],
)
def test_contradictory_rules_are_refused(rules: dict) -> None:
    with pytest.raises(UsageError):
        SequenceRules(**rules)


@pytest.mark.parametrize("clean", [True, False])
def test_known_latents_are_put_into_predictions_and_whole_tokens_kept_clean(clean: bool) -> None:
    from justdub.sequence import Known

    video, audio = torch.randn(1, 3, 2, 4, 4), torch.randn(1, 2, 5, 4)
    known_video, known_audio = torch.zeros(1, 2, 4, 4, dtype=torch.bool), torch.zeros(1, 5, dtype=torch.bool)
    known_video[0, 1, :2, :3], known_audio[0, 1:3] = True, True  # one whole token of 2 x 2, and half of its neighbour
    plan = plan_sequence(
        video_target_BCFHW=video, audio_target_BCTM=audio, video_reference_BCFHW=None, audio_reference_BCTM=None,
        frame_rate=25, geometry=replace(GEOMETRY, patch=2), rules=SequenceRules(),
        known=Known(known_video, known_audio, clean=clean),
    )  # fmt: skip
    assert plan.video.kept_BN.nonzero().tolist() == ([[0, 4]] if clean else [])
    assert plan.audio.kept_BN[0].tolist() == [False, clean, clean, False, False]
    pinned, sound = plan.latents(
        plan.video.pin(torch.zeros_like(plan.video.clean_BNC)), plan.audio.pin(torch.zeros_like(plan.audio.clean_BNC))
    )
    assert torch.equal(pinned, video * known_video[:, None]) and torch.equal(
        sound, audio * known_audio[:, None, :, None]
    )
    sequence = plan.at(
        torch.zeros_like(plan.video.clean_BNC), torch.zeros_like(plan.audio.clean_BNC), *[torch.ones(1)] * 2
    )
    assert sequence.audio.timesteps_BN[0].tolist() == [1, 1 - clean, 1 - clean, 1, 1]
