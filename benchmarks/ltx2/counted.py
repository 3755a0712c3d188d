"""Operations and bytes of a call that is run: for models whose shapes are not worth a formula (the codecs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ltx2.work import Work

_PRODUCTS = ("convolution", "mm", "addmm", "bmm", "baddbmm", "scaled_dot_product")


class Traffic(TorchDispatchMode):
    """Sums the bytes of the operands and results of products, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function.overloadpacket).removeprefix("aten.").lstrip("_")
        if name.startswith(_PRODUCTS):
            leaves = tree_leaves((args, kwargs, result))
            self.bytes += sum(leaf.nbytes for leaf in leaves if isinstance(leaf, torch.Tensor))
        return result


def counted(call: Callable[[], object]) -> Work:
    """Run it once."""
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        call()
    return Work(flops.get_total_flops(), traffic.bytes)
