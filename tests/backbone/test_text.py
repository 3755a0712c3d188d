from __future__ import annotations

import pytest
import torch

from justdub.backbone import checkpoint
from justdub.errors import UsageError

PROMPT = 'The woman is speaking French, saying: "Bonjour"'


@pytest.fixture(scope="module")
def text():
    return checkpoint.load().text


def test_contexts_are_those_of_the_stock_pipeline(text) -> None:
    pipe = text.pipeline
    states, mask, _, _ = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False, max_sequence_length=512)
    video, audio, _ = pipe.connectors(states, mask)
    context = text.encode(PROMPT)
    assert torch.equal(context.video_BLD, video)
    assert torch.equal(context.audio_BLD, audio)
    assert not context.video_BLD.is_inference(), "training reads contexts under autograd"


def test_equal_prompts_are_encoded_once(text) -> None:
    assert text.encode(PROMPT) is text.encode(f"  {PROMPT}\n")
    assert not torch.equal(text.encode(PROMPT).video_BLD, text.encode(PROMPT + "!").video_BLD)


def test_a_mask_of_ones_is_dropped(text) -> None:
    assert text.encode(PROMPT).video_mask_BL is None


def test_too_long_a_prompt_is_refused_not_cut(text) -> None:
    text.encode("a" * (text.max_tokens - 1))
    with pytest.raises(UsageError, match=f"at most {text.max_tokens} tokens"):
        text.encode("a" * text.max_tokens)


def test_one_context_serves_a_batch(text) -> None:
    assert text.encode(PROMPT).expand(3).video_BLD.shape[0] == 3
