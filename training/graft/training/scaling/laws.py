"""Laws of what loss a model of N parameters reaches on D tokens. Pure.

N counts the weights that a token is multiplied by (``flops.num_multiplied``), so that a training takes C = 6 N D.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FLOPS_PER_PARAMETER_AND_TOKEN = 6


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training and the held-out loss it reached, in nats per token."""

    parameters: float
    tokens: float
    loss: float

    @property
    def flops(self) -> float:
        return FLOPS_PER_PARAMETER_AND_TOKEN * self.parameters * self.tokens


@dataclass(frozen=True, kw_only=True)
class Chinchilla:
    """L = E + A / N^α + B / D^β (Hoffmann et al. 2022, arXiv:2203.15556, eq. 2)."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return float(self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """N and D of the least loss for a budget (eq. 4 there)."""
        per_token = flops / FLOPS_PER_PARAMETER_AND_TOKEN
        total = self.alpha + self.beta
        g = (self.alpha * self.a / (self.beta * self.b)) ** (1 / total)
        parameters = g * per_token ** (self.beta / total)
        return parameters, per_token / parameters


@dataclass(frozen=True, kw_only=True)
class Kaplan:
    """L = ((Nc / N)^(αN / αD) + Dc / D)^αD (Kaplan et al. 2020, arXiv:2001.08361, eq. 1.5)."""

    n_c: float
    d_c: float
    alpha_n: float
    alpha_d: float

    def loss(self, parameters: float, tokens: float) -> float:
        of_size = (self.n_c / parameters) ** (self.alpha_n / self.alpha_d)
        return float((of_size + self.d_c / tokens) ** self.alpha_d)

    def optimum(self, flops: float) -> tuple[float, float]:
        """N and D of the least loss for a budget: where αN (Nc / N)^(αN / αD) = αD Dc / D, D = C / 6N."""
        per_token = flops / FLOPS_PER_PARAMETER_AND_TOKEN
        ratio = self.alpha_n / self.alpha_d
        parameters = (ratio * self.n_c**ratio * per_token / self.d_c) ** (1 / (1 + ratio))
        return parameters, per_token / parameters


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """L = (scale / x)^α, of parameters or of tokens alone (Kaplan et al. 2020, eq. 1.1 and 1.2)."""

    scale: float
    alpha: float

    def loss(self, x: float) -> float:
        return float((self.scale / x) ** self.alpha)


PUBLISHED: Mapping[str, Chinchilla | Kaplan] = {
    "chinchilla": Chinchilla(e=1.69, a=406.4, b=410.7, alpha=0.34, beta=0.28),
    "besiroglu": Chinchilla(e=1.8172, a=482.01, b=2085.43, alpha=0.3478, beta=0.3658),
    "kaplan": Kaplan(n_c=6.4e13, d_c=1.8e13, alpha_n=0.076, alpha_d=0.103),
}
"""Hoffmann et al. 2022, eq. 10; its replication, Besiroglu et al. 2024 (arXiv:2404.10102); Kaplan et al. 2020, table 2.

The token is another in each vocabulary, and so is the loss: only ratios of N and D carry over to other data.
"""
