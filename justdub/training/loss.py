"""The training objective: velocity error of both streams, weighted by the face.

An update of the weights may be spread over several forward passes and processes. Every loss is a weighted mean over the
whole update, so it is divided by the update's total weight (`Totals`), not by that of its own part: parts then add up
to exactly what one large batch gives.

Letters: B batch, N target tokens, C channels, F/H/W grid of video tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LossWeights:
    """How the video error is weighted (JUST-DUB-IT: foreground 1, background 0.1, threshold 0.1).

    Attributes:
        foreground, background: weight of tokens inside and outside of the face mask.
        threshold: mask values above it are foreground.
        audio: factor of the audio loss.
    """

    foreground: float = 1.0
    background: float = 0.1
    threshold: float = 0.1
    audio: float = 1.0


@dataclass(frozen=True)
class Totals:
    """Of a whole update: the summed weight of its video target tokens, and the number of its audio target tokens."""

    video: float | Tensor
    audio: float | Tensor


def face_weights(mask_BFHW: Tensor, weights: LossWeights) -> Tensor:
    """(B, F*H*W) float32 weight of every video target token.

    A clip without any foreground gets weight 1 everywhere, the plain loss: with a background weight of 0 it would
    otherwise train nothing and say nothing.
    """
    foreground_BN = mask_BFHW.flatten(1) > weights.threshold
    weighted_BN = torch.where(foreground_BN, weights.foreground, weights.background).to(torch.float32)
    return torch.where(foreground_BN.any(1, keepdim=True), weighted_BN, torch.ones_like(weighted_BN))


def video_weights(kept_BN: Tensor, mask_BFHW: Tensor | None, weights: LossWeights) -> Tensor:
    """(B, N) float32: `face_weights` (1 without a mask), 0 for kept tokens, of which nothing is predicted."""
    free_BN = (~kept_BN).float()
    return free_BN if mask_BFHW is None else face_weights(mask_BFHW, weights) * free_BN


def weighted_mean_square(
    predicted_BNC: Tensor, true_BNC: Tensor, weights_BN: Tensor, total: float | Tensor | None = None
) -> Tensor:
    """``sum of w * mean over channels of error**2 / total``, float32; total: the sum of the weights unless given.

    Only the proportions of the weights count (JUST-DUB-IT: mul(w) / mean(w), then mean).
    """
    error_BN = (predicted_BNC.float() - true_BNC.float()).square().mean(-1)
    return (error_BN * weights_BN).sum() / (weights_BN.sum() if total is None else total)


def dubbing_loss(
    *,
    video_predicted_BNC: Tensor,
    video_true_BNC: Tensor,
    audio_predicted_BNC: Tensor,
    audio_true_BNC: Tensor,
    kept_BN: Tensor,
    face_mask_BFHW: Tensor | None,
    weights: LossWeights,
    totals: Totals | None = None,
    audio_kept_BN: Tensor | None = None,
) -> Tensor:
    """Video plus audio loss over target tokens.

    Args:
        kept_BN, audio_kept_BN: bool, target tokens that were given clean; they do not count. None: none of the sound.
        face_mask_BFHW: on the grid of tokens; None for the plain loss.
        totals: of the whole update that this batch is a part of; None: it is all of it.
    """
    video_weights_BN = video_weights(kept_BN, face_mask_BFHW, weights)
    audio_weights_BN = torch.ones(audio_true_BNC.shape[:2], device=audio_true_BNC.device)
    if audio_kept_BN is not None:
        audio_weights_BN = audio_weights_BN * ~audio_kept_BN
    video = weighted_mean_square(
        video_predicted_BNC, video_true_BNC, video_weights_BN, None if totals is None else totals.video
    )
    audio = weighted_mean_square(
        audio_predicted_BNC, audio_true_BNC, audio_weights_BN, None if totals is None else totals.audio
    )
    return video + weights.audio * audio
