"""Low-rank updates of one linear module, and the arithmetic on them that never forms the product.

Letters: r rank, I input width, O output width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """Low-rank update of one linear module: ``W += B @ A``, alpha already folded in.

    Attributes:
        down_rI: A.
        up_Or: B.
    """

    down_rI: Tensor
    up_Or: Tensor

    @property
    def rank(self) -> int:
        return self.down_rI.shape[0]

    @property
    def widths(self) -> tuple[int, int]:
        """(input, output)."""
        return self.down_rI.shape[1], self.up_Or.shape[0]

    def delta(self) -> Tensor:
        """B @ A, (O, I), float32."""
        return self.up_Or.float() @ self.down_rI.float()


def fold(factors: Factors, scale: float) -> Factors:
    """Multiply B by `scale`; in float32 where B's own type could not hold the products exactly."""
    if scale == 1:
        return factors
    scaled_Or = factors.up_Or.float() * scale
    exact_Or = scaled_Or.to(factors.up_Or.dtype)
    return Factors(factors.down_rI, exact_Or if torch.equal(exact_Or.float(), scaled_Or) else scaled_Or)


def inner(a: Factors, b: Factors) -> float:
    """Frobenius inner product <B A, B' A'> = sum((B^T B') * (A A'^T)): r x r' numbers instead of O x I."""
    up = a.up_Or.float().T @ b.up_Or.float()
    down = a.down_rI.float() @ b.down_rI.float().T
    return (up.double() * down.double()).sum().item()


def norm(factors: Factors) -> float:
    """Frobenius norm of B A."""
    return math.sqrt(max(inner(factors, factors), 0.0))


def concatenate(parts: Sequence[tuple[Factors, float]]) -> Factors:
    """The exact weighted sum of updates, of the sum of their ranks. float32."""
    downs = [factors.down_rI.float() for factors, _ in parts]
    ups = [factors.up_Or.float() * weight for factors, weight in parts]
    return Factors(torch.cat(downs, 0), torch.cat(ups, 1))


def compress(factors: Factors, rank: int) -> tuple[Factors, float]:
    """The nearest update of at most `rank` (Eckart-Young), and the norm of what is lost.

    Returns:
        (factors with singular values split evenly over both, Frobenius norm of the difference).
    """
    if factors.rank <= rank:
        return factors, 0.0
    left_Or, upper_rr = torch.linalg.qr(factors.up_Or.float())
    right_Ir, lower_rr = torch.linalg.qr(factors.down_rI.float().T)
    u_rr, values_r, v_rr = torch.linalg.svd(upper_rr.double() @ lower_rr.double().T)
    root_r = values_r[:rank].sqrt()
    up_Or = left_Or @ (u_rr[:, :rank] * root_r).float()
    down_rI = (v_rr[:rank] * root_r[:, None]).float() @ right_Ir.T
    return Factors(down_rI.contiguous(), up_Or.contiguous()), values_r[rank:].norm().item()
