"""Samples of which only a part is generated, and lists without references: what adapters that make pairs learn from."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import tiny_training as fixtures
import torch

from justdub import jobs
from justdub.errors import UsageError
from justdub.training.batches import Gap, draw
from justdub.training.config import DropoutSettings, InpaintSettings, NoiseSettings, TrainJob
from justdub.training.loop import Trainer
from justdub.training.step import Example, losses, parts

ALONE = {"no_text": 0.0, "no_reference": 0.9, "nothing": 0.1}


def job(out, **changes) -> TrainJob:
    tree = {
        "out": str(out), "data": {"list": "unused.json"}, "lora": {"rank": 3}, "dropout": dict(ALONE),
        "inpaint": {"share": 0.7, "lips": 0.3}, "noise": {"sampler": "uniform"},
        "optimizer": {"rate": 1e-2, "schedule": "constant"},
        "train": {"steps": 16, "batch": 3}, "checkpoint": {"every": 4}, "log": {"every": 1},
    }  # fmt: skip
    for name, value in changes.items():
        jobs.change(tree, f"{name.replace('__', '.')}={json.dumps(value)}")
    return jobs.build(TrainJob, tree)


def without_references(pairs):
    for pair in pairs.pairs:
        sample = pairs.cache.read_sample(pair.sample)
        pairs.cache.write_sample(pair.sample, replace(sample, video_reference_Cfhw=None, audio_reference_CTM=None))
    return pairs


def example(pairs, gap: Gap | None, number: int = 1) -> Example:
    pair = pairs.pairs[number]
    chosen = draw(number, 3, number, 0, 12, NoiseSettings(first_frame=0.0), DropoutSettings(0, 0, 0), InpaintSettings())
    return Example(pairs.cache.read_sample(pair.sample), pairs.cache.read_text(pair.texts[0]), replace(chosen, gap=gap))


def test_the_share_changes_nothing_else_about_a_draw():
    settings = (256, NoiseSettings(apart=0.5), DropoutSettings())
    for slot in range(50):
        plain, whole = (draw(1, 2, slot, 0, *settings, InpaintSettings(share)) for share in (0.0, 1.0))
        assert plain.gap is None and replace(whole, gap=None) == plain
        assert 0 <= whole.gap.start < whole.gap.end <= 1 and 0.4 < whole.gap.end - whole.gap.start < 0.6


def test_draws_follow_the_shares():
    draws = [
        draw(0, 0, slot, 0, 256, NoiseSettings(), DropoutSettings(), InpaintSettings(0.6, 0.25)) for slot in range(2000)
    ]
    gaps = [one.gap for one in draws if one.gap]
    assert 0.56 < len(gaps) / 2000 < 0.64
    assert 0.2 < sum(not gap.sound for gap in gaps) / len(gaps) < 0.3
    assert 0.45 < sum(gap.start < 0.1 for gap in gaps) / len(gaps) < 0.55 and {gap.grow for gap in gaps} == {0, 1, 2}


def test_only_the_masked_part_is_free(tiny, pairs):
    mask_fhw = torch.zeros(fixtures.GRID)
    mask_fhw[:, 1, 0] = 1
    second = example(pairs, Gap(0.5, 1.0, True, 0))
    second = replace(second, sample=replace(second.sample, mask_fhw=mask_fhw))
    (part,) = parts([second], tiny.transformer, job("x").rules, torch.device("cpu"))
    kept_fhw = part.plan.video.kept_BN[0].reshape(fixtures.GRID)
    expected = torch.ones(fixtures.GRID, dtype=torch.bool)
    expected[1:, 1, 0] = False  # the middle latent's centre lies at the gap's beginning
    assert torch.equal(kept_fhw, expected)
    assert part.plan.audio.kept_BN[0].tolist() == [True] * 4 + [False] * 5 and part.audio_tokens() == 5
    wide = replace(second, draw=replace(second.draw, gap=Gap(0.0, 0.5, False, 1)))
    (part,) = parts([wide], tiny.transformer, job("x").rules, torch.device("cpu"))
    assert part.plan.video.kept_BN[0].reshape(fixtures.GRID)[:, 0, 0].tolist() == [False, True, True]
    assert part.audio_tokens() == 0


def test_what_is_given_does_not_count(tiny, pairs):
    """The loss of a part with gaps is the mean over what was generated, whatever is predicted elsewhere."""
    settings = job("x", loss__background=0.3)
    gaps = {0: None, 1: Gap(0.0, 0.5, True, 1), 3: Gap(0.5, 1.0, False, 0)}
    mixed = [example(pairs, gap, number) for number, gap in gaps.items()]
    (part,) = parts(mixed, tiny.transformer, settings.rules, torch.device("cpu"))
    weights_BN = part.weights(settings.loss)
    assert not weights_BN[part.plan.video.kept_BN].any() and weights_BN[~part.plan.video.kept_BN].all()
    run = Trainer(settings, tiny, pairs, fixtures.one_process())
    totals = run._totals([part])
    assert totals.audio == part.audio_tokens() == fixtures.STEPS + 4
    with torch.no_grad():
        together = losses(tiny.transformer, part, settings.loss, totals)
        apart = [
            losses(tiny.transformer, one, settings.loss, totals)
            for e in mixed
            for one in parts([e], tiny.transformer, settings.rules, torch.device("cpu"))
        ]
    assert together.video == pytest.approx(sum(one.video for one in apart), rel=1e-4)
    assert together.audio == pytest.approx(sum(one.audio for one in apart), rel=1e-4)
    assert apart[2].audio == 0


def test_training_without_references(tmp_path, tiny, pairs):
    outcome = Trainer(job(tmp_path / "out"), tiny, without_references(pairs), fixtures.one_process()).run()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert sum(line["loss"] for line in lines[-5:]) < 0.97 * sum(line["loss"] for line in lines[:5])
    assert outcome.steps == 16


def test_each_part_of_a_clip_reads_its_own_prompt(tmp_path, tiny, pairs):
    """Samples with several prompts get spans, others of the update are read by the whole clip; both train."""
    first = replace(
        pairs.pairs[0], texts=("text0", "text1"), pair=replace(pairs.pairs[0].pair, later=((0.2, "line 1"),))
    )
    mixed = replace(pairs, pairs=(first, *pairs.pairs[1:3]))
    assert mixed.digest() != replace(pairs, pairs=pairs.pairs[:3]).digest()
    run = Trainer(job(tmp_path / "out", train__steps=2, dropout__nothing=0, dropout__no_reference=1), tiny, mixed,
                  fixtures.one_process())  # fmt: skip
    (part,) = run._parts(0)
    place = next(n for n, one in enumerate(part.examples) if one.draw.index == 0)
    lengths = [pairs.cache.read_text(name).video_BLD.shape[1] for name in ("text0", "text1")]
    spans_L2 = part.text.spans_BL2[place]
    assert spans_L2[: lengths[0]].tolist() == [[-math.inf, pytest.approx(0.2)]] * lengths[0]
    assert spans_L2[lengths[0] : sum(lengths)].tolist() == [[pytest.approx(0.2), math.inf]] * lengths[1]
    other = part.text.spans_BL2[place - 1][0].tolist()
    assert other == [-math.inf, math.inf]
    assert run.run().steps == 2


@pytest.mark.parametrize("section", ["share", "lips"])
def test_shares_are_shares(section):
    with pytest.raises(UsageError, match=rf"inpaint.{section} is 1.5"):
        InpaintSettings(**{section: 1.5})
