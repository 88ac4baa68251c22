"""The update of one linear layer as a product of two thin matrices, which is all that a LoRA is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Factors:
    """W' = W + B A (Hu et al. 2022, arXiv:2106.09685, equation 3), every scale in B; in float64."""

    a_RI: Tensor
    """Rank × inputs."""
    b_OR: Tensor
    """Outputs × rank."""

    @classmethod
    def of(cls, a_RI: Tensor, b_OR: Tensor, *, scale: float | Tensor = 1.0) -> Factors:
        return cls(a_RI=a_RI.detach().double(), b_OR=b_OR.detach().double() * scale)

    @classmethod
    def whole(cls, weight_OI: Tensor) -> Factors:
        """Of any matrix: no product needs a larger rank than its shorter side."""
        weight_OI = weight_OI.detach().double()
        num_outputs, num_inputs = weight_OI.shape
        side = torch.eye(min(num_outputs, num_inputs), dtype=torch.float64, device=weight_OI.device)
        return cls(a_RI=weight_OI, b_OR=side) if num_outputs <= num_inputs else cls(a_RI=side, b_OR=weight_OI)

    @property
    def rank(self) -> int:
        return int(self.a_RI.shape[0])

    @property
    def num_parameters(self) -> int:
        return int(self.a_RI.numel() + self.b_OR.numel())

    def product(self) -> Tensor:
        """Outputs × inputs."""
        return self.b_OR @ self.a_RI

    def plus(self, other: Factors) -> Factors:
        """The sum of both updates, exactly: their ranks add up."""
        return Factors(a_RI=torch.cat([self.a_RI, other.a_RI]), b_OR=torch.cat([self.b_OR, other.b_OR], dim=1))

    def negated(self) -> Factors:
        return Factors(a_RI=self.a_RI, b_OR=-self.b_OR)

    def nearest(self, rank: int) -> Factors:
        """``nearest`` of the product, by the small matrix between two orthonormal sides."""
        if rank >= self.rank:
            return self
        left_OR, upper_RR = torch.linalg.qr(self.b_OR)
        right_IR, lower_RR = torch.linalg.qr(self.a_RI.T)
        inner = nearest(upper_RR @ lower_RR.T, rank)
        return Factors(a_RI=inner.a_RI @ right_IR.T, b_OR=left_OR @ inner.b_OR)

    def no_longer_than_needed(self) -> Factors:
        """The same update, by the matrix itself where its shorter side is below the rank."""
        return Factors.whole(self.product()) if self.rank > min(self.a_RI.shape[1], self.b_OR.shape[0]) else self


def kronecker(left: Factors, right: Factors) -> Factors:
    """Of a Kronecker product: (B A) ⊗ (D C) = (B ⊗ D) (A ⊗ C)."""
    return Factors(a_RI=torch.kron(left.a_RI, right.a_RI), b_OR=torch.kron(left.b_OR, right.b_OR))


def elementwise(left: Factors, right: Factors) -> Factors:
    """Of an elementwise product, whose rank is at most the product of both: every row of A times every row of C, every
    column of B times every column of D (Khatri-Rao; Hyeon-Woo et al. 2022, arXiv:2108.06098, proposition 1).
    """
    return Factors(
        a_RI=(left.a_RI[:, None] * right.a_RI[None]).flatten(0, 1),
        b_OR=(left.b_OR[:, :, None] * right.b_OR[:, None]).flatten(1, 2),
    )


def nearest(weight_OI: Tensor, rank: int) -> Factors:
    """The product of this rank that is nearest to a matrix in the Frobenius norm (Eckart and Young 1936), its singular
    values shared evenly by both sides.
    """
    u_OR, s_R, v_RI = torch.linalg.svd(weight_OI.detach().double(), full_matrices=False)
    rank = min(rank, len(s_R))
    root_R = s_R[:rank].sqrt()
    return Factors(a_RI=root_R[:, None] * v_RI[:rank], b_OR=u_OR[:, :rank] * root_R)
