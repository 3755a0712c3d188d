"""Norms and angles of changes, against matrices that are multiplied out."""

from __future__ import annotations

import math
from pathlib import Path

import models
import pytest
import torch
from adapter_files import EVERYWHERE, random_factors

from justdub.lora.change import compare, measure
from justdub.lora.factors import Factors, compress, fold
from justdub.lora.weights import TransformerWeights


def test_changes_relative_to_the_base(tmp_path: Path) -> None:
    model = models.tiny_transformer()
    model.save_pretrained(tmp_path / "transformer")
    factors = random_factors(model, ranks=3) | {
        EVERYWHERE[0]: Factors(torch.randn(2, 32), torch.zeros(32, 2)),
        **random_factors(model, ["proj_in"]),
    }
    rows = {(row.group, row.family): row for row in measure(factors, TransformerWeights(tmp_path))}
    relative = {
        name: (f.delta().norm() / model.get_submodule(name).weight.norm()).item() for name, f in factors.items()
    }
    queries = sorted(value for name, value in relative.items() if ".attn1." in name)
    row = rows["video", "attention"]
    assert (row.modules, row.zero) == (8, 1)
    assert row.median == pytest.approx((queries[3] + queries[4]) / 2, rel=1e-5)
    assert row.largest == pytest.approx(queries[-1], rel=1e-5)
    assert rows["video", "outside the blocks"].median == pytest.approx(relative["proj_in"], rel=1e-5)
    assert sum(row.modules for row in rows.values()) == len(factors)
    assert {group for group, _ in rows} == {"video", "audio", "cross"}


def test_comparisons_against_matrices() -> None:
    model = models.tiny_transformer()
    a = random_factors(model)
    b = {n: f for n, f in random_factors(model, rank=2, seed=1).items() if "audio_ff" not in n}
    rows = {(row.group, row.family): row for row in compare(a, b)}
    zero = torch.zeros(1)

    def stacked(factors: dict[str, Factors], part: str) -> torch.Tensor:
        return torch.cat([(factors[n].delta() if n in factors else zero * a[n].delta()).flatten()
                          for n in sorted(a) if part in n])  # fmt: skip

    for key, part in {("video", "attention"): ".attn1.", ("all", "all"): ""}.items():
        x, y, row = stacked(a, part), stacked(b, part), rows[key]
        assert row.cosine == pytest.approx(torch.cosine_similarity(x, y, 0).item(), abs=1e-5)
        assert row.ratio == pytest.approx((y.norm() / x.norm()).item(), rel=1e-5)
        assert row.distance == pytest.approx(((x - y).norm() / x.norm()).item(), rel=1e-5)
    missing = rows["audio", "feed-forward"]
    assert (missing.modules, missing.only_a, missing.only_b, missing.ratio) == (0, 4, 0, 0.0)
    assert math.isnan(missing.cosine)
    assert all(row.cosine == pytest.approx(1) and row.distance < 1e-3 for row in compare(a, a))


def test_compression_is_the_best_of_its_rank() -> None:
    """Eckart-Young: what is lost is the tail of the singular values."""
    factors = Factors(torch.randn(6, 20), torch.randn(30, 6))
    values = torch.linalg.svdvals(factors.delta().double())
    small, lost = compress(factors, 4)
    assert small.rank == 4
    assert lost == pytest.approx(values[4:].norm().item(), rel=1e-4)
    assert (small.delta() - factors.delta()).norm().item() == pytest.approx(lost, rel=1e-4)
    assert compress(factors, 6) == (factors, 0.0)


def test_folding_keeps_the_type_only_where_it_is_exact() -> None:
    factors = Factors(torch.randn(2, 4).bfloat16(), torch.randn(4, 2).bfloat16())
    assert fold(factors, 0.5).up_Or.dtype == torch.bfloat16
    third = fold(factors, 1 / 3).up_Or
    assert third.dtype == torch.float32 and torch.equal(third, factors.up_Or.float() * (1 / 3))
