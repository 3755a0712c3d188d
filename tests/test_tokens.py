"""Tokens of the two streams: there and back, and their positions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import models
import pytest
import torch

from justdub.sequence import SequenceRules, plan_sequence
from justdub.tokens import (
    Geometry,
    audio_positions,
    patchify_audio,
    patchify_video,
    unpatchify_audio,
    unpatchify_video,
    video_positions,
)

GEOMETRY = Geometry()


def test_a_token_may_be_a_patch_of_latents_as_diffusers_packs_it():
    from diffusers import LTX2Pipeline

    video = torch.randn(2, 3, 2, 4, 6)
    tokens = patchify_video(video, 2)
    assert torch.equal(tokens, LTX2Pipeline._pack_latents(video, patch_size=2))
    assert torch.equal(unpatchify_video(tokens, (2, 2, 3), 2), video)
    plan = plan_sequence(
        video_target_BCFHW=video,
        audio_target_BCTM=torch.randn(2, 2, 5, 4),
        video_reference_BCFHW=video,
        audio_reference_BCTM=None,
        frame_rate=25,
        geometry=replace(GEOMETRY, patch=2),
        rules=SequenceRules(keep_first_frame=True),
    )
    assert plan.video_grid == (2, 2, 3)
    assert plan.video.kept_BN.sum(1).tolist() == [6, 6]
    assert plan.video.positions_BDN2[0, 2, :, 1].max() == 3 * 2 * GEOMETRY.pixels_per_latent
    assert torch.equal(plan.latents(plan.video.clean_BNC, plan.audio.clean_BNC)[0], video)


def test_patchify_round_trips() -> None:
    video, audio = torch.randn(2, 6, 3, 4, 5), torch.randn(2, 8, 7, 16)
    assert torch.equal(unpatchify_video(patchify_video(video), (3, 4, 5)), video)
    assert torch.equal(unpatchify_audio(patchify_audio(audio), 16), audio)
    assert patchify_video(video).shape == (2, 60, 6)
    assert patchify_audio(audio).shape == (2, 7, 128)


def test_video_positions_are_seconds_and_pixels() -> None:
    """Latent 0 covers frame [0, 1), latent k frames [8k - 7, 8k + 1)."""
    bounds = video_positions((3, 2, 2), Fraction(25), GEOMETRY)
    frames = (bounds[0] * 25).reshape(3, 4, 2)[:, 0]
    assert torch.allclose(frames, torch.tensor([[0.0, 1], [1, 9], [9, 17]]), atol=1e-5)
    assert bounds[1].reshape(3, 2, 2, 2)[0, :, 0].tolist() == [[0, 32], [32, 64]]
    assert bounds[2].reshape(3, 2, 2, 2)[0, 0].tolist() == [[0, 32], [32, 64]]


def test_positions_equal_the_transformers_own() -> None:
    model = models.joint()
    ours = video_positions((4, 3, 5), 30000 / 1001, model.geometry)
    theirs = model.module.rope.prepare_video_coords(1, 4, 3, 5, torch.device("cpu"), fps=30000 / 1001)[0]
    assert torch.equal(ours, theirs)
    theirs = model.module.audio_rope.prepare_audio_coords(1, 9, torch.device("cpu"))[0]
    assert torch.equal(audio_positions(9, model.geometry), theirs)


def test_audio_positions_are_the_published_ones() -> None:
    expected = torch.tensor([[0, 0.01], [0.01, 0.05], [0.05, 0.09], [0.09, 0.13]])
    assert torch.allclose(audio_positions(4, GEOMETRY)[0], expected, atol=1e-7)


def test_negative_audio_positions_end_one_gap_before_zero() -> None:
    shared, negative = audio_positions(122, GEOMETRY), audio_positions(122, GEOMETRY, negative=True)
    assert negative.max().item() == pytest.approx(-0.04)
    assert torch.allclose(negative.diff(dim=1), shared.diff(dim=1), atol=1e-6)


def test_positions_stay_float32_and_distinct_over_twenty_seconds() -> None:
    """bfloat16 positions lose a fifth of them."""
    times = audio_positions(501, GEOMETRY)[0].mean(-1)
    assert times.dtype == torch.float32
    assert times.unique().numel() == 501


@pytest.mark.parametrize(
    ("frames", "latents", "padded"), [(1, 1, 1), (2, 2, 9), (9, 2, 9), (10, 3, 17), (250, 33, 257)]
)
def test_the_grid(frames: int, latents: int, padded: int) -> None:
    assert GEOMETRY.latent_frames(frames) == latents
    assert GEOMETRY.padded_frames(frames) == padded
