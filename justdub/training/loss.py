"""The training objective: velocity error of both streams, weighted by the face.

Letters: B batch, N target tokens, C channels, F/H/W latent grid.
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


def face_weights(mask_BFHW: Tensor, weights: LossWeights) -> Tensor:
    """(B, F*H*W) float32 weight of every video target token."""
    foreground_BN = mask_BFHW.flatten(1) > weights.threshold
    return torch.where(foreground_BN, weights.foreground, weights.background).to(torch.float32)


def weighted_mean_square(predicted_BNC: Tensor, true_BNC: Tensor, weights_BN: Tensor) -> Tensor:
    """Mean of ``w * error**2 / mean(w)`` over the whole batch, float32: only the proportions of the weights count."""
    error_BNC = (predicted_BNC.float() - true_BNC.float()) ** 2
    return (error_BNC * weights_BN[..., None]).mean() / weights_BN.mean()


def dubbing_loss(
    *,
    video_predicted_BNC: Tensor,
    video_true_BNC: Tensor,
    audio_predicted_BNC: Tensor,
    audio_true_BNC: Tensor,
    kept_BN: Tensor,
    face_mask_BFHW: Tensor | None,
    weights: LossWeights,
) -> Tensor:
    """Video plus audio loss over target tokens.

    Args:
        kept_BN: bool, video target tokens that were given clean; nothing is predicted there, they do not count.
        face_mask_BFHW: on the latent grid; None for the plain loss. A batch whose weights are all zero (no face, and
            background weight 0) falls back to the plain loss: it would otherwise train nothing and say nothing.
    """
    free_BN = (~kept_BN).float()
    video_weights_BN = free_BN
    if face_mask_BFHW is not None:
        weighted_BN = face_weights(face_mask_BFHW, weights) * free_BN
        video_weights_BN = torch.where(weighted_BN.sum() > 0, weighted_BN, free_BN)
    video = weighted_mean_square(video_predicted_BNC, video_true_BNC, video_weights_BN)
    audio = (audio_predicted_BNC.float() - audio_true_BNC.float()).square().mean()
    return video + weights.audio * audio
