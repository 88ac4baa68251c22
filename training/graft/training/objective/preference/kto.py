"""Learning from single answers that were found good or bad: KTO (Ethayarajh et al. 2024, arXiv:2402.01306).

Legend: S answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.policy import answer_logprobs, read_only, reference_logprobs


@dataclass(frozen=True, kw_only=True)
class JudgedBatch:
    """Answers with what was found of them."""

    answers: AnswerBatch
    mismatched: AnswerBatch | None
    """The same answers behind one another's prompts, by which KTO estimates how far the policy has gone."""
    is_desirable_S: Tensor
    reference_S: Tensor | None = None
    """What the reference finds of each answer, where that was computed before."""

    @cached_property
    def num_desirable(self) -> int:
        return int(self.is_desirable_S.sum())

    @cached_property
    def num_tokens(self) -> int:
        return self.answers.num_tokens + (0 if self.mismatched is None else self.mismatched.num_tokens)

    def silent(self) -> Self:
        """The same of which nothing is asked: there are no answers in it."""
        return replace(
            self,
            answers=self.answers.silent(),
            mismatched=self.mismatched and self.mismatched.silent(),
            is_desirable_S=self.is_desirable_S[:0],
            reference_S=None if self.reference_S is None else self.reference_S[:0],
        )

    def to(self, device: str) -> Self:
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with tensors that ``change`` has copied."""
        made = replace(
            self,
            answers=self.answers.each(change),
            mismatched=self.mismatched and self.mismatched.each(change),
            is_desirable_S=change(self.is_desirable_S),
            reference_S=None if self.reference_S is None else change(self.reference_S),
        )
        made.__dict__.update(num_tokens=self.num_tokens, num_desirable=self.num_desirable)
        return made


def kto_losses(
    ratio_S: Tensor, is_desirable_S: Tensor, kl: Tensor, *, beta: float, desirable: float, undesirable: float
) -> Tensor:
    """λ_D·(1 − σ(β(r − z))) of a good answer and λ_U·(1 − σ(β(z − r))) of a bad one, r = log π/π_ref and z the policy's
    divergence from its reference (eqs. 7 and 8). With z = 0 it is APO-zero of single answers. Shape: (S,).
    """
    away_S = beta * (ratio_S - kl)
    good_S, bad_S = desirable * (1 - torch.sigmoid(away_S)), undesirable * (1 - torch.sigmoid(-away_S))
    return good_S.where(is_desirable_S, bad_S)


@dataclass(frozen=True, kw_only=True)
class KtoObjective:
    """The mean over all answers of a step. The divergence is estimated in each micro-batch, whatever others find: so a
    step is the same on however many processes.
    """

    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    weights: Mapping[str, float] = field(default_factory=lambda: {"preference": 1.0})

    def counts(self, batch: JudgedBatch) -> Mapping[str, int]:
        num, good = batch.answers.num, batch.num_desirable
        told = {"kl": int(num > 0), **dict.fromkeys(_OF_GOOD, good), **dict.fromkeys(_OF_BAD, num - good)}
        return {"preference": num, **told}

    def sums(self, model: nn.Module, batch: JudgedBatch) -> Mapping[str, Tensor]:
        reference_S = batch.reference_S
        if reference_S is None:
            reference_S = reference_logprobs(model, batch.answers)
        kl = self._divergence(model, batch)
        own_S, _ = answer_logprobs(model, batch.answers)
        ratio_S, is_good_S = own_S - reference_S, batch.is_desirable_S
        losses_S = kto_losses(
            ratio_S,
            is_good_S,
            kl,
            beta=self.beta,
            desirable=self.desirable_weight,
            undesirable=self.undesirable_weight,
        )
        reward_S, own_S = self.beta * ratio_S.detach(), own_S.detach()
        told = {
            name: each_S.where(is_told_S, 0.0).sum()
            for names, is_told_S in ((_OF_GOOD, is_good_S), (_OF_BAD, ~is_good_S))
            for name, each_S in zip(names, (reward_S, own_S), strict=True)
        }
        return {"preference": losses_S.sum(), "kl": kl, **told}

    def _divergence(self, model: nn.Module, batch: JudgedBatch) -> Tensor:
        """z = max(0, mean of log π/π_ref over answers behind other prompts than their own) (§3.2)."""
        mismatched = batch.mismatched
        if mismatched is None:
            return torch.zeros((), device=batch.is_desirable_S.device)
        with read_only(model):
            own_S, _ = answer_logprobs(model, mismatched)
        ratio_S = own_S - reference_logprobs(model, mismatched)
        return ratio_S.sum().div(max(1, mismatched.num)).clamp(min=0)


_OF_GOOD, _OF_BAD = ("rewards/chosen", "logps/chosen"), ("rewards/rejected", "logps/rejected")
