"""Rectified flow as LTX-2 uses it: paths, schedules, the sigmas of training, the Euler step.

Notation: x0 clean latents, noise ~ N(0, 1), sigma in [0, 1] the share of noise. The path is the straight line
``x_sigma = (1 - sigma) * x0 + sigma * noise`` and the model predicts its velocity ``v = noise - x0``
(Liu et al., "Flow Straight and Fast", arXiv 2209.03003; LTX-2 trains with the same sign).

Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

# Token counts and log-shifts between which LTX-Video's schedule interpolates (LTXV scheduler, base_shift/max_shift).
SHIFT_TOKENS = (1024, 4096)
SHIFT_RANGE = (0.95, 2.05)

# Sigmas of the distilled checkpoints (LTX-2 repository, distilled pipelines; JUST-DUB-IT stage 2 drops the first
# of the stage-2 values).
DISTILLED_STAGE_1 = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
DISTILLED_STAGE_2 = (0.909375, 0.725, 0.421875, 0.0)
JUSTDUBIT_STAGE_2 = (0.725, 0.421875, 0.0)

SigmaSampler = Literal["shifted_logit_normal", "stretched_logit_normal", "uniform"]


# -- the path ---------------------------------------------------------------------------------------------------------


def mix(x0_BNC: Tensor, noise_BNC: Tensor, sigma_BN: Tensor) -> Tensor:
    """The point of the path at `sigma` (one value per token; 0 leaves a token clean)."""
    sigma_BN1 = sigma_BN.unsqueeze(-1)
    return (1 - sigma_BN1) * x0_BNC + sigma_BN1 * noise_BNC


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """The velocity of the path, d x_sigma / d sigma: what the model is trained to predict."""
    return noise - x0


def x0_from_velocity(x_BNC: Tensor, velocity_BNC: Tensor, sigma_BN: Tensor) -> Tensor:
    """Clean latents that a velocity points at."""
    return x_BNC - sigma_BN.unsqueeze(-1) * velocity_BNC


def velocity_from_x0(x_BNC: Tensor, x0_BNC: Tensor, sigma_BN: Tensor) -> Tensor:
    """Inverse of `x0_from_velocity`. Tokens at sigma 0 do not move: their velocity is 0 by definition."""
    sigma_BN1 = sigma_BN.unsqueeze(-1)
    safe_BN1 = torch.where(sigma_BN1 > 0, sigma_BN1, torch.ones_like(sigma_BN1))
    return torch.where(sigma_BN1 > 0, (x_BNC - x0_BNC) / safe_BN1, torch.zeros_like(x_BNC))


def euler_step(x_BNC: Tensor, velocity_BNC: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """One explicit Euler step of dx/dsigma = v, in the dtype of x (keep it float32)."""
    return x_BNC + (sigma_next - sigma) * velocity_BNC.to(x_BNC.dtype)


# -- schedules of inference -------------------------------------------------------------------------------------------


def shift_for_tokens(tokens: int) -> float:
    """Log-shift of the schedule for a token count: linear through (1024, 0.95) and (4096, 2.05), not clamped."""
    (low_tokens, high_tokens), (low, high) = SHIFT_TOKENS, SHIFT_RANGE
    return low + (tokens - low_tokens) * (high - low) / (high_tokens - low_tokens)


def schedule(steps: int, *, tokens: int = 4096, terminal: float = 0.1) -> tuple[float, ...]:
    """LTX-2's sigmas: `steps` values from 1 to `terminal`, then 0.

    A uniform grid is shifted by ``e^m / (e^m + 1/sigma - 1)`` and stretched so that the last non-zero value equals
    `terminal` (LTX2Scheduler of the LTX-2 repository). The reference pipelines of LTX-2 and JUST-DUB-IT anchor the
    shift at 4096 tokens whatever the clip's size; counting reference tokens in, as diffusers does, would double it.

    Args:
        steps: model evaluations, at least 1.
        tokens: token count that sets the shift (target tokens, never references).
        terminal: last sigma above 0; must lie in (0, 1).

    Returns:
        `steps + 1` values, strictly falling, the first 1 and the last 0.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, found {steps}")
    if not 0 < terminal < 1:
        raise ValueError(f"terminal must lie between 0 and 1, found {terminal}")
    factor = math.exp(shift_for_tokens(tokens))
    sigmas = [factor / (factor + (1 / s - 1)) for s in (1 - i / steps for i in range(steps))]
    if steps > 1:
        stretch = (1 - sigmas[-1]) / (1 - terminal)
        sigmas = [1 - (1 - s) / stretch for s in sigmas]
    return (*sigmas, 0.0)


# -- the sigmas of training -------------------------------------------------------------------------------------------


def sample_sigmas(
    batch: int,
    tokens: int,
    *,
    sampler: SigmaSampler = "stretched_logit_normal",
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """One noise level per sample.

    - ``shifted_logit_normal``: sigmoid(N(m, 1)) with m = `shift_for_tokens(tokens)`, as JUST-DUB-IT trains.
    - ``stretched_logit_normal``: the same, with the range between the 0.5 and the 99.9 percentile stretched onto
      [0, 1], values reflected at 1e-3 from below and at 1 from above, and one draw in ten uniform, as the LTX-2
      trainer does since March 2026: low sigmas are then really trained (at 8160 tokens the plain form draws sigma
      below 0.5 in 0.02 % of the steps).
    - ``uniform``: on [1e-3, 1].

    Args:
        batch: number of samples.
        tokens: target tokens of the stream (references excluded).

    Returns:
        (B,) float32 in (0, 1].
    """
    eps = 1e-3
    if sampler not in ("shifted_logit_normal", "stretched_logit_normal", "uniform"):
        raise ValueError(f"unknown sigma sampler {sampler!r}")
    uniform_B = eps + (1 - eps) * torch.rand(batch, generator=generator, device=device)
    if sampler == "uniform":
        return uniform_B
    shift = shift_for_tokens(tokens)
    sigma_B = torch.sigmoid(torch.randn(batch, generator=generator, device=device) + shift)
    if sampler == "shifted_logit_normal":
        return sigma_B
    normal = torch.distributions.Normal(0.0, 1.0)
    low, high = (torch.sigmoid(normal.icdf(torch.tensor(p)) + shift).item() for p in (0.005, 0.999))
    sigma_B = (sigma_B - low) / (high - low)
    sigma_B = torch.where(sigma_B > 1, 2 - sigma_B, sigma_B)
    sigma_B = torch.where(sigma_B < eps, 2 * eps - sigma_B, sigma_B).clamp(eps, 1)
    return torch.where(torch.rand(batch, generator=generator, device=device) < 0.1, uniform_B, sigma_B)
