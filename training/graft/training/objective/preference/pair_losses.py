"""Losses of pairs of answers, of which one is preferred, in nats for each pair.

Where a paper leaves a choice open, it is TRL's, so that what was tuned there holds here. Legend: P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from graft.training.objective.preference.scores import PairScores, Strength

Losses = Callable[[PairScores, Strength], Tensor]


@dataclass(frozen=True, kw_only=True)
class PairLoss:
    """What a ``loss_type`` is."""

    losses: Losses
    """Of each pair. Shape: (P,)."""
    has_reference: bool = True
    by_token: bool = False
    """Whether rewards are told as means over tokens."""
    learns_chosen: bool = False
    """Whether the chosen answer's cross-entropy may be a part of it."""
    learns_prompts: bool = False
    """Whether that is taken over the prompt, too."""
    uses: frozenset[str] = frozenset(("beta",))
    """The settings of ``Strength`` that it reads."""


def sigmoid(scores: PairScores, strength: Strength) -> Tensor:
    """DPO: −log σ(β·margin) (Rafailov et al. 2023, arXiv:2305.18290, eq. 7)."""
    return -logsigmoid(strength.beta * scores.margin_P)


def hinge(scores: PairScores, strength: Strength) -> Tensor:
    """SLiC's: max(0, 1 − β·margin) (Zhao et al. 2023, arXiv:2305.10425; Liu et al. 2024, arXiv:2309.06657)."""
    return relu(1 - strength.beta * scores.margin_P)


def ipo(scores: PairScores, strength: Strength) -> Tensor:
    """(margin − 1/2β)² (Azar et al. 2024, arXiv:2310.12036, eq. 17), by means over tokens, as its authors told TRL."""
    return (scores.mean_margin_P - 1 / (2 * strength.beta)).square()


def robust(scores: PairScores, strength: Strength) -> Tensor:
    """DPO's loss as it would be without the pairs that are the wrong way round, a share ε of all (Chowdhury et al.
    2024, arXiv:2403.00409, §3).
    """
    error, z_P = strength.label_smoothing, strength.beta * scores.margin_P
    return (-(1 - error) * logsigmoid(z_P) + error * logsigmoid(-z_P)) / (1 - 2 * error)


def sigmoid_norm(scores: PairScores, strength: Strength) -> Tensor:
    """DPO by means over tokens (Lambert et al. 2024, arXiv:2411.15124, §5)."""
    return -logsigmoid(strength.beta * scores.mean_margin_P)


def apo_zero(scores: PairScores, strength: Strength) -> Tensor:
    """The chosen up, the rejected down (D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7), shifted by 1 to be ≥ 0."""
    beta = strength.beta
    return 1 - torch.sigmoid(beta * scores.chosen_ratio_P) + torch.sigmoid(beta * scores.rejected_ratio_P)


def apo_down(scores: PairScores, strength: Strength) -> Tensor:
    """Both down, the rejected more: for a policy that is better than what was chosen (ibid., eq. 8)."""
    beta = strength.beta
    return torch.sigmoid(beta * scores.chosen_ratio_P) + 1 - torch.sigmoid(beta * scores.margin_P)


def cpo(scores: PairScores, strength: Strength) -> Tensor:
    """DPO with a uniform reference (Xu et al. 2024, arXiv:2401.08417, eq. 3), smoothed as TRL does."""
    return _smoothed(strength.beta * (scores.chosen_P - scores.rejected_P), strength)


def simpo(scores: PairScores, strength: Strength) -> Tensor:
    """−log σ(β·(mean log p of the chosen − that of the rejected) − γ) (Meng et al. 2024, arXiv:2405.14734, eq. 6)."""
    return _smoothed(strength.beta * scores.mean_margin_P - strength.simpo_gamma, strength)


def orpo(scores: PairScores, strength: Strength) -> Tensor:
    """−β·log σ(log odds ratio), odds(y) = P / (1 − P) of the geometric mean P of its tokens' probabilities (Hong et al.
    2024, arXiv:2403.07691, eqs. 3 to 7, where β is called λ). The chosen one's cross-entropy comes beside it.
    """
    chosen_P = scores.chosen_P / scores.chosen_length_P.clamp(min=1)
    rejected_P = scores.rejected_P / scores.rejected_length_P.clamp(min=1)
    log_odds_P = (chosen_P - rejected_P) - (_log_1_minus_exp(chosen_P) - _log_1_minus_exp(rejected_P))
    return -strength.beta * logsigmoid(log_odds_P)


def _smoothed(z_P: Tensor, strength: Strength) -> Tensor:
    error = strength.label_smoothing
    return -(1 - error) * logsigmoid(z_P) - error * logsigmoid(-z_P)


def _log_1_minus_exp(value_P: Tensor) -> Tensor:
    """log(1 − eˣ) for x < 0, without cancellation on either side of −log 2 (Mächler 2012). An answer that is certain
    has the nearest number below 0 in place of 0: odds are finite.
    """
    below_P = value_P.clamp(max=-torch.finfo(value_P.dtype).tiny)
    is_small_P = below_P < -0.6931471805599453
    # Each branch is given what it can take: a gradient of no number would come through the one that is not chosen.
    small_P, near_P = below_P.where(is_small_P, -1.0), below_P.where(~is_small_P, -0.1)
    return torch.log1p(-small_P.exp()).where(is_small_P, torch.log(-torch.expm1(near_P)))


_SMOOTHED = frozenset(("beta", "label_smoothing"))
PAIR_LOSSES: Mapping[str, PairLoss] = {
    "sigmoid": PairLoss(losses=sigmoid),
    "hinge": PairLoss(losses=hinge),
    "ipo": PairLoss(losses=ipo),
    "robust": PairLoss(losses=robust, uses=_SMOOTHED),
    "sigmoid_norm": PairLoss(losses=sigmoid_norm),
    "apo_zero": PairLoss(losses=apo_zero),
    "apo_down": PairLoss(losses=apo_down),
    "cpo": PairLoss(losses=cpo, has_reference=False, learns_chosen=True, uses=_SMOOTHED),
    "simpo": PairLoss(
        losses=simpo, has_reference=False, by_token=True, learns_chosen=True, uses=_SMOOTHED | {"simpo_gamma"}
    ),
    "orpo": PairLoss(losses=orpo, has_reference=False, by_token=True, learns_chosen=True, learns_prompts=True),
}
"""By the names of ``loss_type``."""
