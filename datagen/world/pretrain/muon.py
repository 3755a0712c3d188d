"""Muon: momentum whose matrices are made orthogonal before they are applied, so that every direction learns.

A weak direction of the gradient moves a weight as far as a strong one, which leaves the "output the mean colour"
plateau of small video autoencoders within tens of steps where Adam needs thousands. After K. Jordan et al., "Muon: an
optimizer for hidden layers in neural networks" (2024): the quintic Newton-Schulz iteration and its coefficients; the
update's size, 0.2 root mean square per element, after Liu et al., "Muon is scalable for LLM training" (2025).

In float32 the iteration is carried out on the Gram matrix of the short side: with G = X X^T, X_k is a polynomial in G
times X, so only the first and the last product touch the long side (27 x the input channels of a convolution). In
bfloat16, worth it where the processor has matrix units for it, it is carried out on X itself, since squares of small
singular values would drown.

Legend: O short side, I long side of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ADAM_BETAS = (0.9, 0.99)
_EPSILON = 1e-8


def orthogonalise(matrix_NOI: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between about 0.7 and 1.2, vectors stay.

    Directions below about a thousandth of the largest are not fully lifted. A zero matrix stays zero. Any shape, with
    or without a leading axis of matrices: many small ones are done at once.
    """
    if matrix_NOI.shape[-2] > matrix_NOI.shape[-1]:
        return orthogonalise(matrix_NOI.mT, steps, dtype).mT
    x_NOI = matrix_NOI.float()
    x_NOI = x_NOI / (x_NOI.square().sum((-2, -1), keepdim=True).sqrt() + 1e-12)
    a, b, c = _QUINTIC
    if dtype != torch.float32:
        x_NOI = x_NOI.to(dtype)
        for _ in range(steps):
            gram_NOO = x_NOI @ x_NOI.mT
            x_NOI = a * x_NOI + (b * gram_NOO + c * (gram_NOO @ gram_NOO)) @ x_NOI
        return x_NOI.float()
    gram_NOO = x_NOI @ x_NOI.mT
    unit_OO = torch.eye(gram_NOO.shape[-1], dtype=gram_NOO.dtype, device=gram_NOO.device)
    product_NOO = unit_OO.expand_as(gram_NOO)
    for _ in range(steps):
        step_NOO = a * unit_OO + b * gram_NOO + c * (gram_NOO @ gram_NOO)
        product_NOO = step_NOO @ product_NOO
        gram_NOO = step_NOO @ gram_NOO @ step_NOO
    return product_NOO @ x_NOI


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions (kernels as (out, in x taps)), Adam for all others.

    Args:
        tables: parameters of two dimensions that are no matrices but lists of vectors (embeddings): Adam's as well.
        lr: of the matrices, in units of 0.2 root mean square per element and step. adam_lr: of the rest.
        momentum: Nesterov momentum of the matrices. weight_decay: decoupled, on matrices only, times their `lr`.
        dtype: in which the matrices are made orthogonal.

    A scheduler scales both rates: group 0 holds the matrices, group 1 the rest.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        tables: Iterable[Tensor] = (),
        lr: float = 2e-3,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        parameters = list(parameters)
        self.dtype = dtype
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "lr": lr, "matrices": True},
            {"params": [*(p for p in parameters if p.ndim < 2), *tables], "lr": adam_lr, "matrices": False},
        ]
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every parameter that has a gradient.

        Parameters in half precision are rounded copies of a float32 master that is kept here (`weights`).
        """
        if closure is not None:
            raise ValueError("Muon takes no closure: compute the gradients first")
        matrices, rest = self.param_groups
        self._matrices([p for p in matrices["params"] if p.grad is not None], matrices)
        for parameter in rest["params"]:
            if parameter.grad is not None:
                master = self._master(parameter)
                self._adam(master, parameter.grad.float(), self.state[parameter], rest)
                if master is not parameter:
                    parameter.copy_(master)

    def _master(self, parameter: Tensor) -> Tensor:
        """The float32 tensor that is updated."""
        if parameter.dtype == torch.float32:
            return parameter
        return self.state[parameter].setdefault("master", parameter.float())

    def weights(self, parameter: Tensor) -> Tensor:
        """The float32 values of a parameter."""
        return self.state[parameter].get("master", parameter) if parameter in self.state else parameter.detach().float()

    def load_state_dict(self, state_dict: dict) -> None:
        """As the class does, but without rounding the state of half-precision parameters to their type."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, state in state_dict["state"].items():
            place = parameters[index]
            self.state[place] = {
                name: value.to(place.device, copy=True) if isinstance(value, Tensor) else value
                for name, value in state.items()
            }

    def _matrices(self, parameters: list[Tensor], group: dict) -> None:
        """Those of one shape are made orthogonal together."""
        shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in parameters:
            shapes.setdefault(tuple(parameter.flatten(1).shape), []).append(parameter)
        for same in shapes.values():
            masters = [self._master(parameter) for parameter in same]
            ahead_NOI = torch.stack([self._ahead(parameter, group["momentum"]).flatten(1) for parameter in same])
            directions_NOI = orthogonalise(ahead_NOI, dtype=self.dtype)
            size = 0.2 * max(directions_NOI.shape[1:]) ** 0.5
            for parameter, master, direction_OI in zip(same, masters, directions_NOI, strict=True):
                if group["weight_decay"]:
                    master.mul_(1 - group["lr"] * group["weight_decay"])
                master.add_(direction_OI.reshape(master.shape), alpha=-group["lr"] * size)
                if master is not parameter:
                    parameter.copy_(master)

    def _ahead(self, parameter: Tensor, decay: float) -> Tensor:
        """The Nesterov momentum after this gradient, float32."""
        state, gradient = self.state[parameter], parameter.grad.float()
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        mean = state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(mean, decay)

    def _adam(self, weight: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        if "mean" not in state:
            state.update(mean=torch.zeros_like(weight), square=torch.zeros_like(weight), steps=0)
        state["steps"] += 1
        first, second = _ADAM_BETAS
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].lerp_(gradient.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["steps"])
        square = state["square"] / (1 - second ** state["steps"])
        weight.addcdiv_(mean, square.sqrt().add_(_EPSILON), value=-group["lr"])
