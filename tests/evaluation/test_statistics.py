"""Intervals that cover, tests that keep their level."""

from __future__ import annotations

import numpy as np
import pytest

from justdub.evaluation.statistics import difference, holm, interval


@pytest.mark.parametrize("skewed", [False, True])
def test_an_interval_of_95_percent_covers_the_truth_about_so_often(skewed: bool) -> None:
    random = np.random.default_rng(0)
    draws = random.exponential(1, (120, 40)) if skewed else random.normal(1, 1, (120, 40))
    found = [interval(draw, resamples=300, seed=number) for number, draw in enumerate(draws)]
    covered = np.mean([one.low <= 1 <= one.high for one in found])
    assert 0.89 <= covered <= 0.99


def test_intervals_of_few_clips() -> None:
    assert interval([]).count == 0
    assert np.isnan(interval([3.0]).low) and interval([3.0]).mean == 3
    same = interval([2.0] * 5)
    assert (same.mean, same.low, same.high, same.count) == (2, 2, 2, 5)


def test_the_paired_test_counts_every_pattern_of_signs() -> None:
    """Five clips that all got better: 2 of 32 patterns are as large."""
    assert difference([0] * 5, [1, 2, 3, 4, 5]).p == pytest.approx(2 / 32)
    assert difference([0, 0], [1, -1]).p == 1
    assert difference([1, 2], [1, 2]).p == 1


def test_the_paired_test_keeps_its_level_and_finds_what_is_there() -> None:
    random = np.random.default_rng(0)
    easy_and_hard = random.normal(0, 10, (80, 20))  # clips differ far more than the systems do
    same = [difference(base, base + random.normal(0, 1, 20)).p for base in easy_and_hard]
    assert np.mean(np.array(same) < 0.05) <= 0.125
    better = [difference(base, base + random.normal(1, 1, 20)).p for base in easy_and_hard[:20]]
    assert np.mean(np.array(better) < 0.05) > 0.8


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
