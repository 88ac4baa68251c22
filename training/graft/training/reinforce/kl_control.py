"""How much the divergence from the reference costs, so that it comes to be what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

MAX_ERROR = 0.2


@dataclass(frozen=True, kw_only=True)
class AdaptiveKl:
    """β ← β (1 + K_β · clip((KL − target) / target, ±0.2)) after each round (Ziegler et al. 2019, arXiv:1909.08593,
    §2.2).
    """

    beta: float
    target: float
    """Nats an answer."""
    gain: float = 0.1
    """K_β; 0 leaves β as it is."""

    def __post_init__(self) -> None:
        if not (self.beta > 0 and self.target > 0 and self.gain >= 0):
            raise ValueError(
                f"beta {self.beta} and target {self.target} must be above 0, the gain {self.gain} not below"
            )

    def after(self, kl: float) -> Self:
        """The next round's, after one whose answers lay ``kl`` nats from the reference, on average."""
        error = (kl - self.target) / self.target
        return replace(self, beta=self.beta * (1 + self.gain * max(-MAX_ERROR, min(MAX_ERROR, error))))
