"""The attention of one transformer in several makes, of which one is in place at a time.

One set of weights serves all: that is what makes the comparison fair, and what fits into the memory.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2AudioVideoAttnProcessor, LTX2VideoTransformer3DModel

from benchmarks.masked import MaskedCrossModal, target_only_mask
from justdub.backbone.text import TextContext
from justdub.backbone.transformer import JointTransformer, Velocity
from justdub.sequence import Layout, Sequence


class Processors:
    """Those that are in place when it is made; `install` puts them back."""

    def __init__(self, module: LTX2VideoTransformer3DModel) -> None:
        self._pairs = [(one, one.processor) for one in module.modules() if hasattr(one, "set_processor")]
        self._pairs = [(one, processor) for one, processor in self._pairs if processor is not None]

    def install(self) -> None:
        for attention, processor in self._pairs:
            attention.processor = processor


class StockTransformer(JointTransformer):
    """The same call and the same sequences, through whatever processors are in place."""

    def velocity(self, sequence: Sequence, text: TextContext, **_: Any) -> Velocity:
        return self._forward(sequence, text)


def ours(module: LTX2VideoTransformer3DModel) -> tuple[JointTransformer, Processors]:
    return JointTransformer(module), Processors(module)


def stock(
    module: LTX2VideoTransformer3DModel, layout: Layout | None, device: torch.device
) -> tuple[StockTransformer, Processors]:
    """Stock attention; with a layout, between the streams under the reference's mask of -inf.

    One mask a direction for all blocks, on the device and in the dtype of the products: as fast as masks can be.
    """
    transformer = StockTransformer(module)
    module.set_attn_processor(LTX2AudioVideoAttnProcessor())
    if layout is not None:
        to_video = target_only_mask(layout.video, layout.audio).to(device, torch.bfloat16)
        to_audio = target_only_mask(layout.audio, layout.video).to(device, torch.bfloat16)
        for block in module.transformer_blocks:
            block.audio_to_video_attn.set_processor(MaskedCrossModal(to_video))
            block.video_to_audio_attn.set_processor(MaskedCrossModal(to_audio))
    return transformer, Processors(module)
