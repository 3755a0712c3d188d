"""Guidance tables: weights, counts of passes, and the published formulas."""

from __future__ import annotations

import pytest
import torch

from justdub.dubbing.guidance import (
    ATTENTION,
    CROSS_MODAL,
    EVERYTHING,
    REFERENCE,
    TEXT,
    Guidance,
    nested,
    rescale,
)
from justdub.errors import UsageError


def combine(table, values: dict[frozenset[str], float], stream: str) -> float:
    return sum(getattr(row, stream) * values[row.conditions] for row in table)


VALUES = {
    EVERYTHING: 1.0,
    EVERYTHING - {TEXT}: 0.3,
    EVERYTHING - {REFERENCE}: -0.7,
    EVERYTHING - {ATTENTION}: 0.9,
    EVERYTHING - {CROSS_MODAL}: 2.0,
}


def test_no_guidance_is_one_pass() -> None:
    (row,) = Guidance().table()
    assert (row.conditions, row.video, row.audio) == (EVERYTHING, 1.0, 1.0)


def test_classifier_free_guidance() -> None:
    table = Guidance(text=3.0, audio_text=7.0).table()
    assert len(table) == 2
    assert combine(table, VALUES, "video") == pytest.approx(0.3 + 3 * (1.0 - 0.3))
    assert combine(table, VALUES, "audio") == pytest.approx(0.3 + 7 * (1.0 - 0.3))


def test_all_terms_add_up_as_in_the_ltx2_guider() -> None:
    guidance = Guidance(text=3, modality=2, stg=0.5, reference=1.5, stg_blocks=(1,))
    table = guidance.table()
    c, u, p, m, r = (VALUES[s] for s in (EVERYTHING, EVERYTHING - {TEXT}, EVERYTHING - {ATTENTION},
                                         EVERYTHING - {CROSS_MODAL}, EVERYTHING - {REFERENCE}))  # fmt: skip
    expected = c + 2 * (c - u) + 0.5 * (c - p) + 1 * (c - m) + 1.5 * (c - r)
    assert combine(table, VALUES, "video") == pytest.approx(expected)
    assert combine(table, VALUES, "audio") == pytest.approx(c)
    assert len(table) == 5
    assert sum(row.video for row in table) == pytest.approx(1)
    assert sum(row.audio for row in table) == pytest.approx(1)


def test_guidance_of_text_and_reference_together() -> None:
    rows = {row.conditions: (row.video, row.audio) for row in Guidance(text=2.0, audio_joint=3.0).table()}
    nothing = EVERYTHING - {TEXT, REFERENCE}
    assert rows == {EVERYTHING: (2.0, 3.0), EVERYTHING - {TEXT}: (-1.0, 0.0), nothing: (0.0, -2.0)}
    assert Guidance(joint=3.0).table() == nested((EVERYTHING, nothing), (3.0,), (1.0,))


CHAIN = (EVERYTHING, EVERYTHING - {REFERENCE}, EVERYTHING - {REFERENCE, TEXT})


def test_nested_ones_are_the_full_set_in_one_pass() -> None:
    (row,) = nested(CHAIN, (1, 1), (1, 1))
    assert row.conditions == EVERYTHING


def test_nested_equal_scales_are_plain_guidance_of_the_last_set() -> None:
    table = nested(CHAIN, (4, 4), (4, 4))
    assert {row.conditions: row.video for row in table} == {EVERYTHING: 4, CHAIN[-1]: -3}


def test_nested_weights() -> None:
    table = nested(CHAIN, (2, 3), (1, 1.5))
    assert {row.conditions: (row.video, row.audio) for row in table} == {
        CHAIN[0]: (2, 1), CHAIN[1]: (1, 0.5), CHAIN[2]: (-2, -0.5),
    }  # fmt: skip


def test_nested_refuses_a_chain_that_is_none() -> None:
    with pytest.raises(UsageError):
        nested((EVERYTHING - {TEXT}, EVERYTHING), (1,), (1,))
    with pytest.raises(UsageError):
        nested(CHAIN, (1,), (1, 1))


def test_rescale_restores_the_deviation() -> None:
    plain, guided = torch.randn(2, 50, 4), 3 * torch.randn(2, 50, 4)
    assert torch.allclose(rescale(guided, plain, 1.0).std(dim=(1, 2)), plain.std(dim=(1, 2)), atol=1e-5)
    assert rescale(guided, plain, 0.0) is guided


def test_bad_scales() -> None:
    with pytest.raises(UsageError):
        Guidance(stg=1.0)
    with pytest.raises(UsageError):
        Guidance(rescale=1.5)
