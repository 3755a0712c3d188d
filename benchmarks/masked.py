"""The cross-modal rule as the reference implementation runs it: an additive mask of -inf over the joint sequence.

It exists to be compared with `justdub.backbone.attention`: the tests compare numbers, `benchmarks/attention.py` time.
"""

from __future__ import annotations

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2AudioVideoAttnProcessor, LTX2VideoTransformer3DModel
from torch import Tensor

from justdub.sequence import Layout, StreamLayout


def target_only_mask(asking: StreamLayout, answering: StreamLayout, fill: float = float("-inf")) -> Tensor:
    """(1, Q, K) float32: 0 where row and column are target tokens, `fill` elsewhere."""
    mask_1QK = torch.full((1, asking.length, answering.length), fill)
    mask_1QK[:, asking.reference :, answering.reference :] = 0
    return mask_1QK


class MaskedCrossModal:
    """Stock attention with a mask of our own (the transformer's forward call has no argument for one)."""

    _attention_backend = None
    _parallel_config = None

    def __init__(self, mask_1QK: Tensor) -> None:
        self.inner, self.mask_1QK = LTX2AudioVideoAttnProcessor(), mask_1QK

    def __call__(
        self,
        attn,
        hidden_states,
        encoder_hidden_states=None,
        attention_mask=None,
        query_rotary_emb=None,
        key_rotary_emb=None,
    ):
        mask = self.mask_1QK.to(hidden_states).expand(hidden_states.shape[0], -1, -1)
        return self.inner(attn, hidden_states, encoder_hidden_states, mask, query_rotary_emb, key_rotary_emb)


def install_masks(transformer: LTX2VideoTransformer3DModel, layout: Layout, *, masked: bool = True) -> None:
    """Put stock processors everywhere, the cross-modal ones with the reference's mask (or without, `masked=False`)."""
    transformer.set_attn_processor(LTX2AudioVideoAttnProcessor())
    if not masked:
        return
    for block in transformer.transformer_blocks:
        block.audio_to_video_attn.set_processor(MaskedCrossModal(target_only_mask(layout.video, layout.audio)))
        block.video_to_audio_attn.set_processor(MaskedCrossModal(target_only_mask(layout.audio, layout.video)))
