"""Linear layers stored in eight bits: how near, what stays, what is trained over them, and one graph when compiled."""

from __future__ import annotations

import models
import pytest
import torch
from torch import nn

from justdub.backbone import eight_bits
from justdub.backbone.eight_bits import EightBitLinear
from justdub.lora import inject
from justdub.lora.config import LoraSettings


def wide(deviation: float) -> nn.Linear:
    torch.manual_seed(0)
    linear = nn.Linear(512, 256)
    nn.init.normal_(linear.weight, std=deviation)
    return linear.requires_grad_(False)


def error(found: torch.Tensor, true: torch.Tensor) -> float:
    return float((found - true).norm() / true.norm())


@pytest.mark.parametrize("deviation", [1.0, 1 / 64, 1e-4])
def test_the_error_is_that_of_three_bits_whatever_the_size_of_the_weights(deviation: float) -> None:
    linear, input_NI = wide(deviation), torch.randn(32, 512)
    linear.bias.zero_()
    assert error(EightBitLinear(linear)(input_NI), linear(input_NI)) == pytest.approx(0.026, abs=0.002)


def test_scales_beat_a_plain_cast_on_weights_as_wide_models_have_them() -> None:
    linear, input_NI = wide(1 / 64), torch.randn(32, 512)
    linear.bias.zero_()
    true, cast = linear(input_NI), nn.functional.linear(input_NI, linear.weight.to(torch.float8_e4m3fn).float())
    assert error(EightBitLinear(linear)(input_NI), true) < 0.75 * error(cast, true)


def test_numbers_that_the_format_has_are_kept_and_a_row_of_zeros_too() -> None:
    linear = nn.Linear(4, 3, bias=False)
    linear.weight.data = torch.tensor([[448.0, -224, 1.5, 0], [0, 0, 0, 0], [0.0625, 0.4375, -7, -7]])
    stored = EightBitLinear(linear)
    assert torch.equal(stored(torch.eye(4)), linear(torch.eye(4)))
    assert stored.weight.nbytes + stored.scale_O.nbytes == eight_bits.stored_bytes(linear) == 12 + 12


def test_the_gradient_is_that_of_the_stored_weights() -> None:
    stored, input_NI = EightBitLinear(wide(0.05)), torch.randn(5, 512, requires_grad=True)
    same = nn.Linear(512, 256)
    same.weight.data = stored(torch.eye(512)).T - stored.bias[:, None]
    same.bias.data = stored.bias
    gradients = [torch.autograd.grad(one(input_NI).square().sum(), input_NI)[0] for one in (stored, same)]
    assert error(*gradients) < 1e-5


def test_types_of_the_computation_leave_the_storage_alone() -> None:
    stored, input_NI = EightBitLinear(wide(0.05)), torch.randn(5, 512)
    true, bytes_OI = stored(input_NI), stored.weight.clone()
    stored.to(torch.bfloat16)
    assert torch.equal(stored.weight, bytes_OI)
    assert error(stored(input_NI.bfloat16()).float(), true) < 0.02


def test_an_adapter_over_it_keeps_its_precision_and_learns() -> None:
    """peft gives an adapter the base's type: eight bits would round it."""
    joint = models.joint()
    eight_bits.store(joint.module)
    eight_bits.store(joint.module)  # again: nothing left to do
    inject.inject(joint.module, LoraSettings(rank=2, targets=("attn1", "ff")), "one")
    trained = dict(inject.trained(joint.module, "one"))
    assert {p.dtype for p in trained.values()} == {torch.float32}
    plan, context = models.plan(joint), models.text_context()
    sigma_B = torch.tensor([0.5])
    found = joint.velocity(plan.at(plan.video.clean_BNC, plan.audio.clean_BNC, sigma_B, sigma_B), context)
    found.video_BNC.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in trained.items() if ".lora_B." in n)
    assert joint.module.proj_in.weight.dtype == torch.float32, "what every token depends on is not stored so"


def test_compiled_it_is_one_graph() -> None:
    block = nn.Sequential(EightBitLinear(wide(0.05)), nn.GELU(), nn.Linear(256, 8))
    input_NI = torch.randn(3, 512)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(input_NI), block(input_NI), atol=1e-5)
