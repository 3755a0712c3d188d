"""Linear layers whose weights are stored in eight bits: half the memory of bfloat16, for dubbing and for a frozen base.

Every row of a weight is divided by its own scale, so that its largest value is the format's largest, and stored as
float8 e4m3; the product is taken in the input's type. Nothing is kept for the backward pass but the eight bits, and
the forward pass has no state, so a compiled block stays one graph. diffusers' layerwise casting, which this replaces,
has no scales (at the 1/64 of weights 4096 wide its error is half as much again) and breaks the graph at every layer.

Legend: N rows of the input, I input, O output features.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

STORED = torch.float8_e4m3fn
# What stays as it is, by parts of the names: what carries noise levels, token and text embeddings, gates and adapters
# (small, and every token depends on it).
PRECISE = (
    "pos_embed",
    "patch_embed",
    "norm",
    "^proj_in$",
    "^proj_out$",
    "^audio_proj_in$",
    "^audio_proj_out$",
    "time_embed",
    "caption_projection",
    "av_cross_attn",
    "prompt_adaln",
    "to_gate_logits",
    "lora_",
)


class EightBitLinear(nn.Linear):
    """A frozen linear layer.

    weight: (O, I), the bytes of float8 numbers: as bytes they are no type to compute in, to which peft would round an
    adapter, and `.to(dtype)` leaves them alone. scale_O: float32, of the rows.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        largest_O = linear.weight.detach().abs().amax(1).float()
        scale_O = torch.where(largest_O > 0, largest_O / torch.finfo(STORED).max, torch.ones_like(largest_O))
        stored_OI = (linear.weight.detach().float() / scale_O[:, None]).to(STORED)
        self.weight = nn.Parameter(stored_OI.view(torch.uint8), requires_grad=False)
        self.register_buffer("scale_O", scale_O)
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:
        product = _Product.apply(input, self.weight, self.scale_O)
        return product if self.bias is None else product + self.bias.to(product.dtype)


class _Product(torch.autograd.Function):
    """input @ (scale * weight)^T; the gradient of the input alone, the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, input_NI: Tensor, weight_OI: Tensor, scale_O: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OI, scale_O)
        return nn.functional.linear(input_NI, weight_OI.view(STORED).to(input_NI.dtype)) * scale_O.to(input_NI.dtype)

    @staticmethod
    def backward(ctx: Any, gradient_NO: Tensor) -> tuple[Tensor, None, None]:
        weight_OI, scale_O = ctx.saved_tensors
        weight_OI = weight_OI.view(STORED).to(gradient_NO.dtype)
        return (gradient_NO * scale_O.to(gradient_NO.dtype)) @ weight_OI, None, None


def linears(transformer: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers that are stored in eight bits, and their names."""
    for name, one in transformer.named_modules():
        if isinstance(one, nn.Linear) and not any(re.search(pattern, name) for pattern in PRECISE):
            yield name, one


def store(transformer: nn.Module) -> None:
    """Store the linear layers of an `LTX2VideoTransformer3DModel` in eight bits. Cannot be undone."""
    for name, linear in list(linears(transformer)):
        if not isinstance(linear, EightBitLinear):
            transformer.set_submodule(name, EightBitLinear(linear))


def stored_bytes(linear: nn.Linear) -> int:
    """What a layer takes once it is stored so."""
    bias = 0 if linear.bias is None else linear.bias.nbytes
    return linear.weight.numel() + 4 * linear.out_features + bias
