"""What a policy and its reference find of answers, which losses are made of. Legend: P pairs, S answers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Of each pair's chosen and rejected answer: Σ log p of its tokens in nats, and how many they are. Shapes: (P,)."""

    chosen_P: Tensor
    rejected_P: Tensor
    reference_chosen_P: Tensor
    """By the reference, without a gradient; 0 for a loss that has none."""
    reference_rejected_P: Tensor
    chosen_length_P: Tensor
    rejected_length_P: Tensor

    @property
    def chosen_ratio_P(self) -> Tensor:
        """log π(y_w|x) − log π_ref(y_w|x)."""
        return self.chosen_P - self.reference_chosen_P

    @property
    def rejected_ratio_P(self) -> Tensor:
        return self.rejected_P - self.reference_rejected_P

    @property
    def margin_P(self) -> Tensor:
        """What DPO's implicit rewards differ by, without their factor β (arXiv:2305.18290, eq. 7)."""
        return self.chosen_ratio_P - self.rejected_ratio_P

    @property
    def mean_margin_P(self) -> Tensor:
        """The same by means over tokens in place of sums."""
        chosen_P = self.chosen_ratio_P / self.chosen_length_P.clamp(min=1)
        return chosen_P - self.rejected_ratio_P / self.rejected_length_P.clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Strength:
    """The numbers in the losses, under TRL's names."""

    beta: float = 0.1
    """How strongly an answer's probability counts: high, and little is moved."""
    label_smoothing: float = 0.0
    """The share of pairs that are taken to be the wrong way round."""
    simpo_gamma: float = 0.5
    """The margin that SimPO wants."""
