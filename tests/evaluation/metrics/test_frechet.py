"""The Frechet distance against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from justdub.errors import BadInputError
from justdub.evaluation.metrics.frechet import frechet


def exactly(mean: np.ndarray, covariance: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Samples whose own mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).normal(size=(count, len(mean)))
    raw -= raw.mean(0)
    whitened = raw @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(raw.T)))).T
    return whitened @ np.linalg.cholesky(covariance).T + mean


@pytest.mark.parametrize("count", [40, 400])
def test_two_gaussians_have_the_closed_form(count: int) -> None:
    random = np.random.default_rng(0)
    factors = random.normal(size=(2, 6, 6))
    first, second = (factor @ factor.T + np.eye(6) for factor in factors)
    one, other = exactly(np.zeros(6), first, count, 1), exactly(np.arange(6.0), second, count + 13, 2)
    closed = (np.arange(6.0) ** 2).sum() + np.trace(first + second - 2 * np.real(sqrtm(first @ second)))
    assert frechet(one, other) == pytest.approx(closed)


def test_one_dimension() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2."""
    one, other = exactly(np.array([1.0]), np.array([[4.0]]), 50, 0), exactly(np.array([4.0]), np.array([[25.0]]), 50, 1)
    assert frechet(one, other) == pytest.approx(9 + 9)


def test_the_same_features_are_at_distance_nought_and_the_measure_is_symmetric() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 30, 5))
    assert frechet(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet(one, other) == pytest.approx(frechet(other, one))


def test_fewer_samples_than_dimensions_are_exact_too() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 8, 30))
    first, second = np.cov(one.T), np.cov(other.T)
    closed = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(first + second)
    closed -= 2 * np.sqrt(np.linalg.eigvals(first @ second).real.clip(0)).sum()
    assert frechet(one, other) == pytest.approx(closed, rel=1e-5)


@pytest.mark.parametrize("wrong", [np.full((4, 3), np.nan), np.zeros((1, 3)), np.zeros((4, 2)), np.zeros(3)])
def test_features_that_cannot_be_compared(wrong: np.ndarray) -> None:
    with pytest.raises(BadInputError):
        frechet(np.zeros((4, 3)), wrong)
