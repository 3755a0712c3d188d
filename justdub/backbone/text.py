"""Prompt -> the text context of each stream, cached by content.

The tokenizer, the Gemma encoder and the connectors are diffusers' own path (`LTX2Pipeline.encode_prompt`); this file
adds what it lacks: a prompt that is too long is refused instead of cut, and equal prompts are encoded once.

Letters: B batch, L text tokens, D width of a stream's context.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from justdub.errors import BadInputError, MissingError, UsageError

CACHED_PROMPTS = 64
CLOSED = -10000.0  # what diffusers adds to attention where a text token does not count


@dataclass(frozen=True)
class TextContext:
    """What the two streams read by text cross-attention.

    Attributes:
        video_BLD, audio_BLD: context of each stream.
        video_mask_BL, audio_mask_BL: 1 where a token counts, or None when all do (kernels without mask support then
            work).
        spans_BL2: seconds from and to which a text token is read, by tokens of the clip whose middle lies there; None:
            by all. So a clip can have several prompts, one after the other (`joined`).
    """

    video_BLD: Tensor
    audio_BLD: Tensor
    video_mask_BL: Tensor | None = None
    audio_mask_BL: Tensor | None = None
    spans_BL2: Tensor | None = None

    def expand(self, batch: int) -> TextContext:
        """Share a context of batch one among `batch` samples."""
        if self.video_BLD.shape[0] == batch:
            return self
        masks = (None if mask is None else mask.expand(batch, -1) for mask in (self.video_mask_BL, self.audio_mask_BL))
        spans = None if self.spans_BL2 is None else self.spans_BL2.expand(batch, -1, -1)
        return TextContext(self.video_BLD.expand(batch, -1, -1), self.audio_BLD.expand(batch, -1, -1), *masks, spans)

    def read_by(self, times_BN: Tensor, mask_BL: Tensor | None) -> Tensor | None:
        """What diffusers takes as mask of a stream whose tokens' middles are at `times_BN` seconds: mask_BL itself, or
        a bias (B, N, L) that is 0 where a token may read and very negative elsewhere."""
        if self.spans_BL2 is None:
            return mask_BL
        start_B1L, end_B1L = self.spans_BL2[:, None, :, 0], self.spans_BL2[:, None, :, 1]
        open_BNL = (times_BN[..., None] >= start_B1L) & (times_BN[..., None] < end_B1L)
        if mask_BL is not None:
            open_BNL = open_BNL & mask_BL[:, None].bool()
        return (~open_BNL).to(self.video_BLD.dtype) * CLOSED


def joined(parts: Sequence[TextContext], until: Sequence[float]) -> TextContext:
    """One context of several prompts, each read by a part of the clip.

    Args:
        parts: of batch 1. until: seconds at which each but the last one ends.

    Raises:
        UsageError: the times do not rise.
    """
    if len(until) != len(parts) - 1 or list(until) != sorted(set(until)):
        raise UsageError(f"{len(parts)} prompts that end at {list(until)}", expected="rising ends of all but the last")
    if len(parts) == 1:
        return parts[0]
    edges = [-math.inf, *until, math.inf]
    spans = [
        part.video_BLD.new_tensor([start, end], dtype=torch.float32).expand(1, part.video_BLD.shape[1], 2)
        for part, start, end in zip(parts, edges, edges[1:], strict=False)
    ]

    def masks(name: str) -> Tensor | None:
        own = [getattr(part, name) for part in parts]
        if all(mask is None for mask in own):
            return None
        whole = [torch.ones(part.video_BLD.shape[:2], device=part.video_BLD.device) for part in parts]
        return torch.cat([one if mask is None else mask.to(one) for mask, one in zip(own, whole, strict=True)], 1)

    return TextContext(
        torch.cat([part.video_BLD for part in parts], 1),
        torch.cat([part.audio_BLD for part in parts], 1),
        masks("video_mask_BL"),
        masks("audio_mask_BL"),
        torch.cat(spans, 1),
    )


class TextEncoder:
    """Tokenizer, language model and connectors of a checkpoint.

    Args:
        pipeline: an `LTX2Pipeline` that holds at least `tokenizer`, `text_encoder` and `connectors`.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.device: torch.device | None = None  # where it works, when its weights wait elsewhere
        self._cache: OrderedDict[str, TextContext] = OrderedDict()

    def knows(self, prompt: str) -> bool:
        """Whether a prompt has been read already."""
        return prompt.strip() in self._cache

    def release(self) -> None:
        """Forget language model and connectors; prompts that have been read stay known."""
        self.pipeline.text_encoder = self.pipeline.connectors = None

    @property
    def registers(self) -> bool:
        """Whether learned tokens fill the padding, so that every prompt has `max_tokens` of context."""
        return self.pipeline.connectors.config.video_connector_num_learnable_registers is not None

    @property
    def max_tokens(self) -> int:
        return int(self.pipeline.tokenizer.model_max_length)

    def count_tokens(self, prompt: str) -> int:
        return len(self.pipeline.tokenizer(prompt.strip(), add_special_tokens=True).input_ids)

    @torch.no_grad()  # not inference mode: training reads contexts and latents under autograd
    def encode(self, prompt: str) -> TextContext:
        """Context of one prompt, batch 1.

        Raises:
            UsageError: the prompt has more tokens than the model reads.
        """
        prompt = prompt.strip()
        if prompt in self._cache:
            self._cache.move_to_end(prompt)
            return self._cache[prompt]
        tokens = self.count_tokens(prompt)
        if tokens > self.max_tokens:
            raise UsageError(
                f"a prompt of {len(prompt)} characters and {tokens} tokens",
                expected=f"at most {self.max_tokens} tokens",
                remedy="shorten the prompt, or dub the clip in parts",
            )
        if self.pipeline.text_encoder is None:
            raise MissingError(
                "the text encoder was freed after the first prompts, and this one is new",
                expected="one prompt a run in this memory tier",
                remedy="a larger --memory, or load the pipeline again",
            )
        context = self.encode_batch([prompt], tokens)
        self._cache[prompt] = context
        while len(self._cache) > CACHED_PROMPTS:
            self._cache.popitem(last=False)
        return context

    def encode_batch(self, prompts: list[str], longest: int) -> TextContext:
        """Context of prompts of at most `longest` tokens, under autograd and not cached (pretraining learns it).

        Connectors with registers fill the padding up to `max_tokens` with them, and every token counts. Without
        registers padding means nothing: prompts are padded to the longest only, and the rest is masked.
        """
        encoder, connectors = self.pipeline.text_encoder, self.pipeline.connectors
        padded = not self.registers
        states, mask_BL, _, _ = self.pipeline.encode_prompt(
            prompts,
            do_classifier_free_guidance=False,
            max_sequence_length=longest if padded else self.max_tokens,
            device=self.device or encoder.device,
            dtype=encoder.dtype,
        )
        video_BLD, audio_BLD, out_mask_BL = connectors(states.to(connectors.dtype), mask_BL)
        # Without registers the connectors' own mask is all ones, padding included: the tokenizer's is the true one.
        mask_BL = mask_BL if padded else out_mask_BL
        mask_BL = None if bool(mask_BL.all()) else mask_BL
        return TextContext(video_BLD, audio_BLD, mask_BL, mask_BL)

    @torch.no_grad()
    def connect(self, video_BLD: Tensor, audio_BLD: Tensor, mask_BL: Tensor) -> TextContext:
        """Context of one prompt from features before the connectors, which other trainers keep on disk.

        Args:
            video_BLD, audio_BLD: projected features of batch 1 (LTX-2.0: the same for both), padded on the left.
            mask_BL: 1 where a token counts.

        Raises:
            BadInputError: features of another width.
        """
        connectors = self.pipeline.connectors
        found, streams = [], (("video", video_BLD), ("audio", audio_BLD))
        for stream, features_BLD in streams:
            connector = getattr(connectors, f"{stream}_connector")
            width = connector.transformer_blocks[0].attn1.to_q.in_features
            if features_BLD.shape[-1] != width:
                raise BadInputError(
                    f"{stream} text features of width {features_BLD.shape[-1]}",
                    expected=f"{width}, as of this backbone",
                )
            if not self.registers:  # padding would be read
                features_BLD, mask = features_BLD[mask_BL.bool()][None], mask_BL[mask_BL.bool()][None]
            else:
                mask = mask_BL
            dtype = connectors.dtype
            added_B11L = (mask[:, None, None].to(dtype) - 1) * torch.finfo(dtype).max
            found.append(connector(features_BLD.to(connectors.device, dtype), added_B11L.to(connectors.device))[0])
        return TextContext(*found)
