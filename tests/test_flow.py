"""Identities of the path and known values of the schedules."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from justdub import flow

SHAPE = (2, 5, 3)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_velocity_leads_back_to_x0() -> None:
    x0, noise = random(*SHAPE), random(*SHAPE, seed=1)
    sigma_BN = torch.rand(2, 5, dtype=torch.float64)
    x = flow.mix(x0, noise, sigma_BN)
    v = flow.velocity(x0, noise)
    assert torch.allclose(flow.x0_from_velocity(x, v, sigma_BN), x0, atol=1e-12)
    assert torch.allclose(flow.velocity_from_x0(x, x0, sigma_BN), v, atol=1e-9)


def test_clean_tokens_stay_clean_and_do_not_move() -> None:
    x0, noise = random(*SHAPE), random(*SHAPE, seed=1)
    zero_BN = torch.zeros(2, 5, dtype=torch.float64)
    assert torch.equal(flow.mix(x0, noise, zero_BN), x0)
    assert torch.equal(flow.velocity_from_x0(x0, noise, zero_BN), torch.zeros_like(x0))


def test_euler_is_exact_on_a_straight_path() -> None:
    x0, noise = random(*SHAPE), random(*SHAPE, seed=1)
    x = noise
    sigmas = flow.schedule(7)
    for sigma, following in pairwise(sigmas):
        x = flow.euler_step(x, flow.velocity(x0, noise), sigma, following)
    assert torch.allclose(x, x0, atol=1e-12)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (4096, (1, 0.966, 0.922, 0.864, 0.783, 0.665, 0.471, 0.1, 0)),
        (8160, (1, 0.978, 0.949, 0.908, 0.849, 0.753, 0.572, 0.1, 0)),
    ],
)
def test_schedule_equals_the_published_scheduler(tokens: int, expected: tuple[float, ...]) -> None:
    """Sigmas of LTX-2's scheduler at 4096 tokens (its anchor) and 8160 tokens, 8 steps, three decimals."""
    assert flow.schedule(8, tokens=tokens) == pytest.approx(expected, abs=6e-4)


def test_schedule_equals_diffusers() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift_terminal=0.1, time_shift_type="exponential", num_train_timesteps=1000
    )
    theirs.set_timesteps(sigmas=[1 - i / 12 for i in range(12)], mu=flow.shift_for_tokens(4096))
    assert flow.schedule(12) == pytest.approx(theirs.sigmas.tolist(), abs=1e-6)


@given(steps=st.integers(1, 60), tokens=st.integers(1, 20000), terminal=st.floats(0.01, 0.5))
def test_schedule_falls_from_one_to_zero(steps: int, tokens: int, terminal: float) -> None:
    sigmas = flow.schedule(steps, tokens=tokens, terminal=terminal)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == 1.0
    assert sigmas[-1] == 0.0
    assert all(a > b for a, b in pairwise(sigmas))
    if steps > 1:
        assert sigmas[-2] == pytest.approx(terminal)


@pytest.mark.parametrize("kwargs", [{"steps": 0}, {"steps": 4, "terminal": 0.0}, {"steps": 4, "terminal": 1.0}])
def test_schedule_refuses_nonsense(kwargs: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        flow.schedule(**kwargs)


def test_shift_anchors() -> None:
    assert flow.shift_for_tokens(1024) == pytest.approx(0.95)
    assert flow.shift_for_tokens(4096) == pytest.approx(2.05)
    assert flow.shift_for_tokens(8160) == pytest.approx(3.505, abs=1e-3)


def draw(sampler: flow.SigmaSampler, tokens: int, count: int = 200_000) -> torch.Tensor:
    return flow.sample_sigmas(count, tokens, sampler=sampler, generator=torch.Generator().manual_seed(0))


def test_shifted_sampler_has_the_published_median() -> None:
    """sigmoid(3.505) = 0.971 at 8160 tokens, and sigma below 0.5 in 0.02 % of the draws."""
    sigma_B = draw("shifted_logit_normal", 8160)
    assert sigma_B.median().item() == pytest.approx(1 / (1 + math.exp(-3.505)), abs=2e-3)
    assert (sigma_B < 0.5).float().mean().item() == pytest.approx(0.0002, abs=1.5e-4)


def test_stretched_sampler_really_trains_low_sigmas() -> None:
    sigma_B = draw("stretched_logit_normal", 8160)
    assert (sigma_B < 0.5).float().mean() > 0.05
    assert sigma_B.min() >= 1e-3
    assert sigma_B.max() <= 1.0


@pytest.mark.parametrize("sampler", ["shifted_logit_normal", "stretched_logit_normal", "uniform"])
def test_samplers_are_deterministic_and_in_range(sampler: flow.SigmaSampler) -> None:
    one, two = draw(sampler, 3520, 1000), draw(sampler, 3520, 1000)
    assert torch.equal(one, two)
    assert one.dtype == torch.float32
    assert (one > 0).all()
    assert (one <= 1).all()


def test_unknown_sampler() -> None:
    with pytest.raises(ValueError, match="unknown"):
        flow.sample_sigmas(1, 1, sampler="cosine")  # type: ignore[arg-type]
