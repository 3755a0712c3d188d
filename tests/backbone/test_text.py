from __future__ import annotations

from pathlib import Path

import pytest
import torch

from justdub.backbone import checkpoint, untrained
from justdub.errors import UsageError

PROMPT = 'The woman is speaking French, saying: "Bonjour"'


@pytest.fixture(scope="module")
def text():
    return checkpoint.load().text


@pytest.mark.parametrize("registers", [16, None])
def test_contexts_are_those_of_the_stock_pipeline(registers: int | None, tmp_path: Path) -> None:
    """With registers every token counts; without, the padding of the stock path is cut off."""
    untrained.write(tmp_path, checkpoint.Card(), size=untrained.Size(layers=1, registers=registers))
    text = checkpoint.load(tmp_path).text
    pipe = text.pipeline
    states, mask, _, _ = pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False, max_sequence_length=512)
    video, audio, _ = pipe.connectors(states, mask)
    count = 512 if registers else text.count_tokens(PROMPT)
    context = text.encode(PROMPT)
    torch.testing.assert_close(context.video_BLD, video[:, -count:], atol=5e-4, rtol=1e-3)
    torch.testing.assert_close(context.audio_BLD, audio[:, -count:], atol=5e-4, rtol=1e-3)
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
