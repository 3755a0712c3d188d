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


def orthogonalise(matrix_OI: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: singular values end between about 0.7 and 1.2, vectors stay.

    Directions below about a thousandth of the largest are not fully lifted. A zero matrix stays zero. Any shape.
    """
    if matrix_OI.shape[0] > matrix_OI.shape[1]:
        return orthogonalise(matrix_OI.T, steps, dtype).T
    x_OI = matrix_OI.float() / (matrix_OI.float().norm() + 1e-12)
    a, b, c = _QUINTIC
    if dtype != torch.float32:
        x_OI = x_OI.to(dtype)
        for _ in range(steps):
            gram_OO = x_OI @ x_OI.T
            x_OI = torch.addmm(x_OI, torch.addmm(gram_OO, gram_OO, gram_OO, beta=b, alpha=c), x_OI, beta=a)
        return x_OI.float()
    gram_OO = x_OI @ x_OI.T
    unit_OO = torch.eye(len(gram_OO), dtype=gram_OO.dtype, device=gram_OO.device)
    product_OO = unit_OO
    for _ in range(steps):
        step_OO = a * unit_OO + b * gram_OO + c * (gram_OO @ gram_OO)
        product_OO = step_OO @ product_OO
        gram_OO = step_OO @ gram_OO @ step_OO
    return product_OO @ x_OI


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
        for group in self.param_groups:
            update = self._matrix if group["matrices"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if parameter.dtype == torch.float32:
                    update(parameter, parameter.grad, state, group)
                    continue
                master = state.setdefault("master", parameter.float())
                update(master, parameter.grad.float(), state, group)
                parameter.copy_(master)

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

    def _matrix(self, weight: Tensor, gradient: Tensor, state: dict, group: dict) -> None:
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        mean, decay = state["momentum"], group["momentum"]
        mean.lerp_(gradient, 1 - decay)
        direction_OI = orthogonalise(gradient.lerp(mean, decay).flatten(1), dtype=self.dtype)
        size = 0.2 * max(direction_OI.shape) ** 0.5
        if group["weight_decay"]:
            weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(direction_OI.view(weight.shape), alpha=-group["lr"] * size)

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
