"""An adapter that is trained: put on the frozen transformer by peft, read out again as factors.

The base stays as it is and frozen; the factors are float32 whatever the base's dtype, so that an optimizer's small
steps are not rounded away.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from justdub.errors import BadInputError
from justdub.lora.config import LoraSettings
from justdub.lora.files import Factors


def inject(transformer: Any, settings: LoraSettings, name: str, seed: int = 0) -> None:
    """Add a trainable adapter to every block of an `LTX2VideoTransformer3DModel`; B is zero, so nothing changes yet.

    Args:
        seed: of A. The random numbers of the caller stay as they are.

    Raises:
        BadInputError: a target is not in this transformer.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    blocks = range(len(transformer.transformer_blocks))
    ranks = {f"transformer_blocks.{b}.{m}": settings.rank_of(m) for b in blocks for m in settings.modules}
    alphas = {f"transformer_blocks.{b}.{m}": settings.alpha_of(m) for b in blocks for m in settings.modules}
    for module in ranks:
        try:
            transformer.get_submodule(module)
        except AttributeError:
            raise BadInputError(f"the backbone has no module {module}", expected="an LTX-2 transformer") from None
    usual = settings.alpha if settings.alpha is not None else float(settings.rank)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=usual,
        lora_dropout=settings.dropout,
        target_modules=sorted(ranks),
        rank_pattern={m: r for m, r in ranks.items() if r != settings.rank},
        alpha_pattern={m: a for m, a in alphas.items() if a != usual},
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer.add_adapter(config, adapter_name=name)
    cast_training_params([transformer], torch.float32)


def trained(transformer: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters of an adapter, in the order of the modules."""
    for parameter_name, parameter in transformer.named_parameters():
        if ".lora_" in parameter_name and f".{name}." in parameter_name:
            yield parameter_name, parameter


def export(transformer: nn.Module, name: str) -> dict[str, Factors]:
    """The adapter's factors, float32 copies on the CPU, alpha / rank folded into B."""
    found = {}
    for module_name, module in transformer.named_modules():
        if name in getattr(module, "lora_A", {}):
            scale = module.lora_alpha[name] / module.r[name]
            down: Tensor = module.lora_A[name].weight.detach().float().cpu().clone()
            up: Tensor = module.lora_B[name].weight.detach().float().cpu()
            found[module_name.removeprefix("_fsdp_wrapped_module.")] = Factors(down, up * scale)
    return found
