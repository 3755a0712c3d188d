"""The objective beside the golden numbers: proportions, kept tokens, the fall-back without a face."""

from __future__ import annotations

import pytest
import torch

from justdub.training.loss import LossWeights, Totals, dubbing_loss, face_weights, video_weights, weighted_mean_square

PREDICTED, TRUE = torch.randn(2, 12, 4), torch.randn(2, 12, 4)
AUDIO = torch.randn(2, 5, 3)
KEPT = torch.zeros(2, 12, dtype=torch.bool)


def loss(mask: torch.Tensor | None, weights: LossWeights = LossWeights(), kept: torch.Tensor = KEPT) -> float:  # noqa: B008
    return dubbing_loss(
        video_predicted_BNC=PREDICTED,
        video_true_BNC=TRUE,
        audio_predicted_BNC=AUDIO,
        audio_true_BNC=AUDIO,
        kept_BN=kept,
        face_mask_BFHW=mask,
        weights=weights,
    ).item()


def test_only_the_proportions_of_weights_count() -> None:
    weights = torch.rand(2, 12) + 0.1
    one, ten = (weighted_mean_square(PREDICTED, TRUE, w) for w in (weights, 10 * weights))
    assert torch.allclose(one, ten)
    plain = (PREDICTED - TRUE).square().mean()
    assert torch.allclose(weighted_mean_square(PREDICTED, TRUE, torch.full((2, 12), 0.3)), plain)


def test_the_threshold_divides_foreground_from_background() -> None:
    mask = torch.tensor([[[[0.05, 0.1, 0.11, 1.0]]]])
    assert torch.allclose(face_weights(mask, LossWeights()), torch.tensor([[0.1, 0.1, 1.0, 1.0]]))


def test_background_zero_reads_the_face_alone() -> None:
    mask = torch.zeros(2, 3, 2, 2)
    mask[:, 1] = 1
    expected = (PREDICTED - TRUE)[:, 4:8].square().mean().item()
    assert loss(mask, LossWeights(background=0.0)) == pytest.approx(expected, rel=1e-5)


def test_no_face_and_background_zero_fall_back_to_the_plain_loss() -> None:
    assert loss(torch.zeros(2, 3, 2, 2), LossWeights(background=0.0)) == pytest.approx(loss(None), rel=1e-6)


def test_kept_tokens_do_not_count() -> None:
    kept = KEPT.clone()
    kept[:, :4] = True
    assert loss(None, kept=kept) == pytest.approx((PREDICTED - TRUE)[:, 4:].square().mean().item(), rel=1e-5)


def test_audio_has_its_own_weight() -> None:
    def total(weight: float) -> float:
        return dubbing_loss(
            video_predicted_BNC=TRUE, video_true_BNC=TRUE, audio_predicted_BNC=AUDIO, audio_true_BNC=AUDIO + 2,
            kept_BN=KEPT, face_mask_BFHW=None, weights=LossWeights(audio=weight),
        ).item()  # fmt: skip

    assert total(0.25) == pytest.approx(1.0, rel=1e-5)
    assert total(0.0) == 0.0


def test_a_clip_without_a_face_counts_like_one_without_a_mask() -> None:
    mask = torch.zeros(2, 3, 2, 2)
    mask[0, 0, 0, 0] = 1
    weights = face_weights(mask, LossWeights())
    assert weights[0].sum() == pytest.approx(1 + 11 * 0.1)
    assert torch.equal(weights[1], torch.ones(12))


def test_parts_of_an_update_add_up_to_the_whole() -> None:
    mask = torch.zeros(2, 3, 2, 2)
    mask[0, 1], mask[1, 2, 0] = 1, 1
    kept = KEPT.clone()
    kept[1, :4] = True
    totals = Totals(video_weights(kept, mask, LossWeights()).sum(), AUDIO.shape[0] * AUDIO.shape[1])

    def part(rows: slice, totals: Totals | None) -> torch.Tensor:
        return dubbing_loss(
            video_predicted_BNC=PREDICTED[rows], video_true_BNC=TRUE[rows],
            audio_predicted_BNC=AUDIO[rows], audio_true_BNC=AUDIO[rows] * 2, kept_BN=kept[rows],
            face_mask_BFHW=mask[rows], weights=LossWeights(), totals=totals,
        )  # fmt: skip

    parts = part(slice(0, 1), totals) + part(slice(1, 2), totals)
    torch.testing.assert_close(parts, part(slice(0, 2), None), rtol=1e-6, atol=0)
