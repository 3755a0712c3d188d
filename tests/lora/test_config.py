"""What an adapter consists of: names, groups, ranks."""

from __future__ import annotations

import models
import pytest
import torch

from justdub.errors import UsageError
from justdub.lora import inject
from justdub.lora.config import MODULES, LoraSettings, expand, family, group


def test_a_block_has_28_modules_and_all_are_in_the_transformer():
    assert len(MODULES) == len(set(MODULES)) == 28
    block = models.tiny_transformer().transformer_blocks[0]
    linear = {name for name, module in block.named_modules() if isinstance(module, torch.nn.Linear)}
    assert linear == set(MODULES)


def test_names_never_reach_into_another_stream():
    assert expand("attn1") == ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
    assert expand("ff") == ("ff.net.0.proj", "ff.net.2") and expand("audio_ff.net.2") == ("audio_ff.net.2",)
    with pytest.raises(UsageError, match=r"try: audio_attn[12]"):
        expand("audio_attn")


def test_groups_and_families_divide_the_modules():
    full = [f"transformer_blocks.3.{module}" for module in MODULES]
    assert {name: sum(group(m) == name for m in full) for name in ("video", "audio", "cross")} == {
        "video": 10, "audio": 10, "cross": 8,
    }  # fmt: skip
    assert family("transformer_blocks.0.audio_attn2.to_k") == "text attention"
    assert family("video_to_audio_attn.to_q") == "cross-modal attention" and family("ff.net.2") == "feed-forward"


def test_the_longest_name_has_the_rank():
    settings = LoraSettings(rank=8, alpha=4.0, ranks={"attn1": 2, "attn1.to_q": 1}, alphas={"ff": 16.0})
    assert [settings.rank_of(m) for m in ("attn1.to_q", "attn1.to_v", "ff.net.2")] == [1, 2, 8]
    assert settings.alpha_of("ff.net.2") == 16.0 and settings.alpha_of("attn1.to_q") == 4.0
    assert LoraSettings(rank=8).alpha_of("ff.net.2") == 8.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"targets": ()}, "empty"), ({"rank": 0}, "rank 0"), ({"dropout": 1.0}, "dropout"),
     ({"targets": ("to_q",)}, "to_q"), ({"targets": ("attn1",), "ranks": {"ff": 2}}, "no target")],
)  # fmt: skip
def test_nonsense_is_refused(changes, said):
    with pytest.raises(UsageError, match=said):
        LoraSettings(**changes)


def test_injection_changes_nothing_yet_trains_exactly_the_targets_and_leaves_random_numbers_alone():
    model = models.joint()
    plan = models.plan(model)
    sequence = plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, torch.ones(1), torch.ones(1))
    before = model.velocity(sequence, models.text_context())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    inject.inject(model.module, LoraSettings(rank=2, targets=("attn1", "audio_ff.net.2")), "new", seed=1)
    assert torch.equal(torch.rand(1), expected)
    after = model.velocity(sequence, models.text_context())
    assert torch.equal(before.video_BNC, after.video_BNC) and torch.equal(before.audio_BNC, after.audio_BNC)
    trained = {name for name, p in model.module.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in inject.trained(model.module, "new")} and len(trained) == 2 * 5 * 2
    other = models.joint()
    inject.inject(other.module, LoraSettings(rank=2, targets=("attn1", "audio_ff.net.2")), "new", seed=1)
    for (_, one), (_, two) in zip(
        inject.trained(model.module, "new"), inject.trained(other.module, "new"), strict=True
    ):
        assert torch.equal(one, two), "the seed decides"
