"""The optimizer of an adapter: a learning rate per group of modules, and a schedule that depends on the step alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from justdub.errors import MissingError, UsageError
from justdub.lora.config import within_block
from justdub.training.config import OptimizerSettings


def factor(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Share of the learning rates at a step, 0..1.

    Computed from the number of updates, not by a scheduler that is advanced: with N processes those that accelerate
    advances run N times too fast.
    """
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, steps - settings.warmup)
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "linear":
        return 1 - (1 - settings.floor) * progress
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def build(named: Iterable[tuple[str, nn.Parameter]], settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW over the adapter's parameters, a group for each learning rate. Those whose rate is 0 are frozen.

    Raises:
        MissingError: 8-bit AdamW without bitsandbytes or without CUDA.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        rate = settings.rate_of(within_block(name.partition(".lora_")[0]))
        parameter.requires_grad_(rate > 0)
        if rate > 0:
            groups.setdefault(rate, []).append(parameter)
    settled = [{"params": parameters, "lr": rate, "base": rate} for rate, parameters in groups.items()]
    if not settled:
        raise UsageError("every learning rate is 0", expected="something to train", remedy="optimizer.rate: 2e-4")
    return _kind(settings)(settled, betas=tuple(settings.betas), eps=settings.eps, weight_decay=settings.decay)


def _kind(settings: OptimizerSettings) -> Any:
    if settings.name == "adamw":
        return torch.optim.AdamW
    if find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise MissingError(
            "optimizer adamw8bit needs the package bitsandbytes and a CUDA device", remedy="optimizer.name: adamw"
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    for settled in optimizer.param_groups:
        settled["lr"] = settled["base"] * share


class Average:
    """The running mean of an adapter's parameters, float32. With decay 0 it is the parameters themselves.

    Early on the mean is over a tenth of the updates so far, so that it forgets the start.
    """

    def __init__(self, parameters: list[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.means: list[Tensor] = [p.detach().float().clone() for p in parameters] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.means:
            share = 1 - min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.means, [p.detach().float() for p in self.parameters], share)

    def __enter__(self) -> None:
        """The parameters hold the means until `__exit__`."""
        self.own = [p.detach().clone() for p in self.parameters] if self.means else []
        self._fill(self.means)

    def __exit__(self, *_: object) -> None:
        self._fill(self.own)

    @torch.no_grad()
    def _fill(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=False):
            parameter.copy_(value)
