"""Muon: momentum whose matrices are made orthogonal before they are applied, so that every direction learns.

A weak direction of the gradient moves a weight as far as a strong one, which leaves the "output the mean colour"
plateau of small video autoencoders within tens of steps where Adam needs thousands. After K. Jordan et al., "Muon: an
optimizer for hidden layers in neural networks" (2024): the quintic Newton-Schulz iteration and its coefficients; the
update's size, 0.2 root mean square per element, after Liu et al., "Muon is scalable for LLM training" (2025).

The iteration is carried out on the Gram matrix of the short side: with G = X X^T, X_k is a polynomial in G times X,
so only the first and the last product touch the long side (27 x the input channels of a convolution).

Legend: O short side, I long side of a matrix.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ADAM_BETAS = (0.9, 0.99)
_EPSILON = 1e-8


def orthogonalise(matrix_OI: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between about 0.7 and 1.2, vectors stay.

    Directions below about a thousandth of the largest are not fully lifted. A zero matrix stays zero. Any shape.
    """
    if matrix_OI.shape[0] > matrix_OI.shape[1]:
        return orthogonalise(matrix_OI.T, steps).T
    x_OI = matrix_OI.float() / (matrix_OI.float().norm() + 1e-12)
    gram_OO = x_OI @ x_OI.T
    unit_OO = torch.eye(len(gram_OO), dtype=gram_OO.dtype, device=gram_OO.device)
    product_OO = unit_OO
    a, b, c = _QUINTIC
    for _ in range(steps):
        step_OO = a * unit_OO + b * gram_OO + c * (gram_OO @ gram_OO)
        product_OO = step_OO @ product_OO
        gram_OO = step_OO @ gram_OO @ step_OO
    return product_OO @ x_OI


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two or more dimensions (kernels as (out, in x taps)), Adam for all others.

    Args:
        lr: of the matrices, in units of 0.2 root mean square per element and step. adam_lr: of the rest.
        momentum: Nesterov momentum of the matrices. weight_decay: decoupled, on matrices only, times their `lr`.

    A scheduler scales both rates: group 0 holds the matrices, group 1 the rest.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 2e-3,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        parameters = list(parameters)
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "lr": lr, "matrices": True},
            {"params": [p for p in parameters if p.ndim < 2], "lr": adam_lr, "matrices": False},
        ]
        super().__init__(groups, {"momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("Muon takes no closure: compute the gradients first")
        for group in self.param_groups:
            update = self._matrix if group["matrices"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, group)

    def _matrix(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean, decay = state["momentum"], group["momentum"]
        mean.lerp_(parameter.grad, 1 - decay)
        direction_OI = orthogonalise(parameter.grad.lerp(mean, decay).flatten(1))
        size = 0.2 * max(direction_OI.shape) ** 0.5
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction_OI.view(parameter.shape), alpha=-group["lr"] * size)

    def _adam(self, parameter: Tensor, group: dict) -> None:
        state = self.state[parameter]
        if not state:
            state.update(mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter), steps=0)
        state["steps"] += 1
        first, second = _ADAM_BETAS
        state["mean"].lerp_(parameter.grad, 1 - first)
        state["square"].lerp_(parameter.grad.square(), 1 - second)
        mean = state["mean"] / (1 - first ** state["steps"])
        square = state["square"] / (1 - second ** state["steps"])
        parameter.addcdiv_(mean, square.sqrt().add_(_EPSILON), value=-group["lr"])
