"""Several prompts in one clip: each part reads its own, and nothing else changes."""

from __future__ import annotations

import math
from dataclasses import replace

import models
import pytest
import torch

from justdub.backbone.text import TextContext, joined
from justdub.errors import UsageError
from justdub.training.cache import pad_texts

TOLERANCE = dict(atol=2e-5, rtol=2e-5)


def velocity(joint, text: TextContext, **taken):
    plan = models.plan(joint, batch=text.video_BLD.shape[0], steps=17)
    noise = torch.Generator().manual_seed(3)
    tokens = [torch.randn(stream.clean_BNC.shape, generator=noise) for stream in (plan.video, plan.audio)]
    sigma_B = torch.full((len(tokens[0]),), 0.7)
    sequence = plan.at(*tokens, sigma_B, sigma_B)
    found = joint.velocity(sequence, text, **taken)
    times = [stream.positions_BDN2[0, 0].mean(-1) for stream in (sequence.video, sequence.audio)]
    return (found.video_BNC, found.audio_BNC), times


def middle(times: torch.Tensor) -> float:
    return float((times.min() + times.max()) / 2)


@pytest.mark.parametrize("generation", list(models.GENERATIONS))
def test_each_part_reads_its_own_prompt_alone(generation):
    """In a single block without cross-modal attention a token depends on the text that it reads and on no other."""
    joint = models.joint(generation, layers=1)
    one, other, third = (models.text_context(tokens=n, seed=seed) for n, seed in ((5, 1), (7, 2), (3, 9)))
    _, times = velocity(joint, one)
    until = middle(times[0])
    both, _ = velocity(joint, joined([one, other], [until]), skip_cross_modal=True)
    changed, _ = velocity(joint, joined([one, third], [until]), skip_cross_modal=True)
    alone = [velocity(joint, text, skip_cross_modal=True)[0] for text in (one, other)]
    for stream in range(2):
        first_N = times[stream] < until
        assert first_N.any() and not first_N.all()
        torch.testing.assert_close(both[stream][:, first_N], alone[0][stream][:, first_N], **TOLERANCE)
        torch.testing.assert_close(both[stream][:, ~first_N], alone[1][stream][:, ~first_N], **TOLERANCE)
        assert torch.equal(changed[stream][:, first_N], both[stream][:, first_N])
        assert not torch.allclose(changed[stream][:, ~first_N], both[stream][:, ~first_N], atol=1e-3)


def test_the_same_prompt_twice_is_the_prompt():
    joint, text = models.joint(), models.text_context()
    plain, times = velocity(joint, text)
    twice, _ = velocity(joint, joined([text, text], [middle(times[0])]))
    for a, b in zip(plain, twice, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


def test_masks_of_the_parts_stay_theirs():
    one, other = models.text_context(tokens=4), models.text_context(tokens=3, seed=2)
    mask_BL = torch.tensor([[1, 1, 0, 1]])
    text = joined([replace(one, video_mask_BL=mask_BL, audio_mask_BL=mask_BL), other], [1.0])
    assert text.video_mask_BL.tolist() == [[1, 1, 0, 1, 1, 1, 1]]
    bias_BNL = text.read_by(torch.tensor([[0.5, 1.0]]), text.video_mask_BL)
    assert (bias_BNL == 0).tolist() == [[[True, True, False, True] + [False] * 3, [False] * 4 + [True] * 3]]
    assert text.spans_BL2[0, 0].tolist() == [-math.inf, 1.0] and text.spans_BL2[0, -1].tolist() == [1.0, math.inf]
    assert text.expand(3).spans_BL2.shape == (3, 7, 2)


def test_one_prompt_needs_no_spans():
    text = models.text_context()
    assert joined([text], []) is text and text.read_by(torch.zeros(1, 2), None) is None


@pytest.mark.parametrize("until", [[], [1.0, 2.0], [2.0, 1.0, 3.0]])
def test_ends_must_rise(until):
    with pytest.raises(UsageError, match="rising ends"):
        joined([models.text_context()] * (4 if len(until) == 3 else 2), until)


def test_a_batch_of_one_and_of_several_prompts():
    """What training does: padded together, every sample gets what it gets alone."""
    joint = models.joint()
    one, other = models.text_context(tokens=5), models.text_context(tokens=6, seed=2)
    _, times = velocity(joint, one)
    texts = [one, joined([one, other], [middle(times[0])])]
    alone = [velocity(joint, text.expand(2))[0] for text in texts]  # both samples' tokens, one text
    together, _ = velocity(joint, pad_texts(texts, 8))
    for stream in range(2):
        for sample in range(2):
            torch.testing.assert_close(together[stream][sample], alone[sample][stream][sample], **TOLERANCE)
