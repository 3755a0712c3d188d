"""Where a setting of a dub comes from: the user, the adapter, the checkpoint."""

from __future__ import annotations

import pytest

from justdub.dubbing.settings import SAMPLING, DubSettings, check_sampling
from justdub.errors import UsageError

CARD = {"steps": 20, "guidance": 2.0, "audio_guidance": 3.0}


def test_the_user_goes_before_the_adapter_and_it_before_the_checkpoint() -> None:
    adapter = {"audio_guidance": 2.0, "rescale": 0.7, "steps": 12.0, "of a later version": 1.0}
    filled = DubSettings(rescale=0.0, seed=4).filled(adapter, {"rescale": 0.3, "stg": 1.0}, CARD)
    assert {name: getattr(filled, name) for name in SAMPLING} == {
        "steps": 12, "guidance": 2.0, "audio_guidance": 2.0, "reference_guidance": 0.0,
        "audio_reference_guidance": 0.0, "joint_guidance": 1.0, "audio_joint_guidance": 1.0, "modality_guidance": 1.0,
        "stg": 1.0, "rescale": 0.0,
    }  # fmt: skip
    assert isinstance(filled.steps, int) and filled.seed == 4
    assert filled.filled(CARD) == filled


@pytest.mark.parametrize(
    ("user", "adapter", "both"),
    [
        ({}, {"reference_guidance": 1.0}, (1, 1)),
        ({"reference_guidance": 2.0}, {"reference_guidance": 1.0}, (2, 2)),
        ({}, {"audio_reference_guidance": 1.0}, (0, 1)),
        ({"audio_reference_guidance": 0.5}, {}, (0, 0.5)),
    ],
)
def test_identity_guidance_is_for_both_streams_unless_somebody_parts_them(user, adapter, both) -> None:
    filled = DubSettings(**user).filled(adapter, CARD)
    assert (filled.reference_guidance, filled.audio_reference_guidance) == both


def test_guidance_of_both_is_for_both_streams_too() -> None:
    filled = DubSettings().filled({"audio_joint_guidance": 2.0, "audio_guidance": 1.0}, CARD)
    assert (filled.joint_guidance, filled.audio_joint_guidance, filled.audio_guidance) == (1, 2, 1)
    assert DubSettings(joint_guidance=3.0).filled(CARD).audio_joint_guidance == 3


def test_a_fixed_schedule_keeps_its_own_steps() -> None:
    assert DubSettings(schedule="distilled").filled(CARD).steps is None


@pytest.mark.parametrize(
    ("sampling", "found"),
    [
        ({"cfg": 2.0}, "cfg"),
        ({"rescale": 2.0}, "rescale 2"),
        ({"guidance": -1.0}, "guidance -1"),
        ({"steps": 0}, "0 s"),
    ],
)
def test_what_cannot_be_sampled_with_is_refused(sampling: dict, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        check_sampling(sampling, "adapter.sampling")
