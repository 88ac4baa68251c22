"""Learning which of two answers is preferred, with or without a reference. Legend: P pairs, S = 2P answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

from torch import Tensor, nn

from graft.training.batch.answers import AnswerBatch
from graft.training.objective.policy import answer_logprobs, reference_logprobs
from graft.training.objective.preference.pair_losses import PairLoss
from graft.training.objective.preference.scores import PairScores, Strength

PAIRS, CHOSEN_TOKENS = "preference", "nll"
"""The terms."""


@dataclass(frozen=True, kw_only=True)
class PairBatch:
    """The chosen answers, and then the rejected ones in the same order, in one pass of the model."""

    answers: AnswerBatch
    margin_P: Tensor | None = None
    """By how much a reward model is to prefer each (``margin`` in rows)."""
    reference_S: Tensor | None = None
    """What the reference finds of each answer, where that was computed before."""

    @property
    def num_pairs(self) -> int:
        return self.answers.num // 2

    @cached_property
    def num_tokens(self) -> int:
        return self.answers.num_tokens

    @cached_property
    def num_chosen_tokens(self) -> int:
        """Tokens that are asked for with the chosen answers."""
        return int(self.answers.asked_S.index_select(0, self.answers.place_S[: self.num_pairs]).sum())

    def silent(self) -> Self:
        """The same of which nothing is asked: there are no pairs in it."""
        margin_P, reference_S = (None if one is None else one[:0] for one in (self.margin_P, self.reference_S))
        return replace(self, answers=self.answers.silent(), margin_P=margin_P, reference_S=reference_S)

    def to(self, device: str) -> Self:
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with tensors that ``change`` has copied."""
        margin_P, reference_S = (None if one is None else change(one) for one in (self.margin_P, self.reference_S))
        made = replace(self, answers=self.answers.each(change), margin_P=margin_P, reference_S=reference_S)
        made.__dict__.update(num_tokens=self.num_tokens, num_chosen_tokens=self.num_chosen_tokens)
        return made


@dataclass(frozen=True, kw_only=True)
class PairObjective:
    """A ``loss_type`` on pairs: the mean over all pairs of a step. What is told beside it has TRL's names."""

    loss: PairLoss
    strength: Strength
    nll_weight: float = 0.0
    """The factor of the chosen answers' mean cross-entropy, which ORPO, CPO and some SimPO learn beside the pairs."""

    @property
    def weights(self) -> Mapping[str, float]:
        return {PAIRS: 1.0, **({CHOSEN_TOKENS: self.nll_weight} if self.nll_weight else {})}

    def counts(self, batch: PairBatch) -> Mapping[str, int]:
        tokens = {CHOSEN_TOKENS: batch.num_chosen_tokens} if self.nll_weight else {}
        return {PAIRS: batch.num_pairs, **tokens, **dict.fromkeys(METRICS, batch.num_pairs)}

    def sums(self, model: nn.Module, batch: PairBatch) -> Mapping[str, Tensor]:
        reference_S = self._reference(model, batch)
        own_S, all_S = answer_logprobs(model, batch.answers)
        chosen, rejected = slice(batch.num_pairs), slice(batch.num_pairs, None)
        scores = PairScores(
            chosen_P=own_S[chosen],
            rejected_P=own_S[rejected],
            reference_chosen_P=reference_S[chosen],
            reference_rejected_P=reference_S[rejected],
            chosen_length_P=batch.answers.length_S[chosen],
            rejected_length_P=batch.answers.length_S[rejected],
        )
        nll = {CHOSEN_TOKENS: -all_S[chosen].sum()} if self.nll_weight else {}
        return {PAIRS: self.loss.losses(scores, self.strength).sum(), **nll, **self._told(scores)}

    def _reference(self, model: nn.Module, batch: PairBatch) -> Tensor:
        if not self.loss.has_reference:
            return batch.answers.length_S.new_zeros(batch.answers.num)
        return reference_logprobs(model, batch.answers) if batch.reference_S is None else batch.reference_S

    def _told(self, scores: PairScores) -> dict[str, Tensor]:
        chosen_P, rejected_P = scores.chosen_ratio_P.detach(), scores.rejected_ratio_P.detach()
        logps = scores.chosen_P.detach(), scores.rejected_P.detach()
        if self.loss.by_token:
            lengths = scores.chosen_length_P.clamp(min=1), scores.rejected_length_P.clamp(min=1)
            chosen_P, rejected_P = chosen_P / lengths[0], rejected_P / lengths[1]
            logps = logps[0] / lengths[0], logps[1] / lengths[1]
        beta = self.strength.beta
        told = (beta * chosen_P, beta * rejected_P, chosen_P > rejected_P, beta * (chosen_P - rejected_P), *logps)
        return {name: one.float().sum() for name, one in zip(METRICS, told, strict=True)}


METRICS = (
    *("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"),
    *("logps/chosen", "logps/rejected"),
)
