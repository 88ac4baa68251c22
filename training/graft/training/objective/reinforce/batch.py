"""Sampled answers that are learned from. Legend: S answers, N tokens of answers, as they lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

from torch import Tensor

from graft.training.batch.answers import AnswerBatch


@dataclass(frozen=True, kw_only=True)
class RolloutBatch:
    """Answers in which every token but the prompts' is asked for; log-probabilities are in nats, shapes (N,)."""

    answers: AnswerBatch
    sampled_N: Tensor
    """log p of each token under whoever sampled it, as the server said."""
    advantage_N: Tensor
    """How much better a token's answer, or the token, is than what was to be expected."""
    is_fresh_N: Tensor
    """Whether the weights before the round's first step sampled it: trained and served log p should agree there."""
    old_N: Tensor | None = None
    """log p under the weights before the round's first step, as they are trained; None where this is that step: the
    policy's own are taken, whose ratio is 1."""
    reference_N: Tensor | None = None
    """log p under the reference, where that was computed before."""
    value_N: Tensor | None = None
    """What the value head found before the round's first step; PPO's alone."""
    return_N: Tensor | None = None
    """What it is to find."""

    @property
    def num_tokens(self) -> int:
        """All tokens but padding."""
        return self.answers.num_tokens

    @property
    def num_learned(self) -> int:
        """N."""
        return self.answers.packed.num_labels

    @cached_property
    def num_fresh(self) -> int:
        """Tokens."""
        return int(self.is_fresh_N.sum())

    def silent(self) -> Self:
        """The same of which nothing is asked: there are no answers in it."""
        return self._with(self.answers.silent(), lambda one: one[:0])

    def to(self, device: str) -> Self:
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with tensors that ``change`` has copied."""
        made = self._with(self.answers.each(change), change)
        made.__dict__.update(num_fresh=self.num_fresh)
        return made

    def _with(self, answers: AnswerBatch, change: Callable[[Tensor], Tensor]) -> Self:
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "answers"}
        changed = {name: value if value is None else change(value) for name, value in values.items()}
        return replace(self, answers=answers, **changed)
