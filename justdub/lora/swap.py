"""Put another adapter in a loaded one's place: no reload, no new graph of compiled code.

peft's hotswap writes the new factors into the old ones' memory. Three of its habits are guarded here: it recognises an
adapter's keys by substring, so one name must not be part of another's; it grows a slot whose rank is too small, which
recompiles; and a plain number as a module's scale is a constant of the compiled code, which `prepare` makes a tensor.
"""

from __future__ import annotations

from typing import Any

import torch

from justdub.errors import BadInputError, UsageError
from justdub.lora.files import AdapterFile, check_fit
from justdub.lora.formats import peft_config


def prepare(transformer: Any, rank: int) -> None:
    """Give every loaded adapter room for `rank`, padded with zeros, and scales that can change. Before compiling.

    Raises:
        UsageError: an adapter is wider already, or the transformer is compiled.
    """
    from peft.utils.hotswap import prepare_model_for_compiled_hotswap

    try:
        prepare_model_for_compiled_hotswap(transformer, target_rank=rank, config=transformer.peft_config)
    except ValueError as error:
        raise UsageError(f"adapters cannot be given rank {rank} ({error})", remedy="prepare before loading") from error


def swap(transformer: Any, slot: str, adapter: AdapterFile) -> None:
    """Overwrite the adapter that `apply` put in as `slot`; modules that the new one lacks become zero.

    Raises:
        BadInputError: it does not fit the transformer, or changes modules that the slot does not.
        UsageError: no such slot, or one of a smaller rank.
    """
    from peft.utils.hotswap import hotswap_adapter_from_state_dict

    check_fit(transformer, adapter)
    ranks = {
        name: layer.lora_A[slot].weight.shape[0]
        for name, layer in transformer.named_modules()
        if slot in getattr(layer, "lora_A", {})
    }
    others = [name for name in getattr(transformer, "peft_config", {}) if name != slot]
    if not ranks or any(slot in name for name in [*others, *ranks]):
        raise UsageError(f"the adapter name {slot!r} cannot be swapped", expected="one that no other name contains")
    if extra := [module for module in adapter.modules if module not in ranks]:
        raise BadInputError(
            f"adapter {adapter.path} changes {len(extra)} modules that the loaded one does not ({extra[0]})",
            expected=f"at most its {len(ranks)} modules",
            remedy="load the adapter with the most modules first",
        )
    narrow = max(
        (factors.rank for module, factors in adapter.modules.items() if factors.rank > ranks[module]), default=0
    )
    if narrow:
        raise UsageError(
            f"adapter {adapter.path} of rank {adapter.rank} has no room in a slot of rank {max(ranks.values())}",
            remedy=f"prepare_swaps({adapter.rank}) before the first adapter is loaded",
        )
    state: dict[str, torch.Tensor] = {}
    for module, factors in adapter.modules.items():
        state[f"{module}.lora_A.{slot}.weight"] = factors.down_rI
        state[f"{module}.lora_B.{slot}.weight"] = factors.up_Or
    hotswap_adapter_from_state_dict(transformer, state, slot, peft_config(adapter.modules))
