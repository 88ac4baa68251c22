"""From lessons to micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.training.batch.answers import AnswerBatch
from graft.training.batch.order import shuffled
from graft.training.batch.packing import best_fit, padded
from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.reinforce.lesson import Lesson
from graft.training.reinforce.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class Laying:
    """How answers become micro-batches."""

    pad_id: int
    tokens: int
    """Of a micro-batch, padding counted; a longer answer has one by itself."""
    packing: bool = True

    def parts(self, rollouts: Sequence[Rollout]) -> list[list[int]]:
        """Numbers of the answers in each micro-batch: the longest together, in lines as long as the longest of all."""
        sizes = [len(one.prompt_ids) + len(one.answer_ids) for one in rollouts]
        length = padded(max(sizes, default=0))
        by_size = sorted(range(len(sizes)), key=lambda number: -sizes[number])
        lines = best_fit(sizes, length=length) if self.packing else [[number] for number in by_size]
        per_batch = max(1, self.tokens // max(1, length))
        return [[one for line in lines[at : at + per_batch] for one in line] for at in range(0, len(lines), per_batch)]

    def answers(self, rollouts: Sequence[Rollout]) -> AnswerBatch:
        """One micro-batch."""
        return AnswerBatch.of([one.answer for one in rollouts], packing=self.packing, pad_id=self.pad_id)

    def steps(self, given: Sequence[Lesson], *, num: int, seed: str, step: int) -> list[list[RolloutBatch]]:
        """The micro-batches of ``num`` steps of about as many answers each, dealt out by the seed; of fewer steps where
        there are fewer answers. Before the first of them the policy has taken ``step``.
        """
        order = shuffled(len(given), seed)
        dealt = [[given[number] for number in order[at::num]] for at in range(num)]
        return [self.batches(own, step=step) for own in dealt if own]

    def batches(self, given: Sequence[Lesson], *, step: int) -> list[RolloutBatch]:
        """The micro-batches of one step of a round that began after ``step`` of them."""
        numbers = self.parts([one.rollout for one in given])
        return [self._batch([given[number] for number in part], step) for part in numbers]

    def _batch(self, given: Sequence[Lesson], step: int) -> RolloutBatch:
        answers = self.answers([one.rollout for one in given])
        recalled = [one.recalled for one in given if one.recalled is not None]
        return RolloutBatch(
            answers=answers,
            sampled_N=answers.laid([one.rollout.logprobs for one in given]),
            advantage_N=answers.laid([one.advantages for one in given]),
            is_fresh_N=answers.spread(torch.tensor([one.rollout.age(step) == 0 for one in given])),
            old_N=_laid(answers, [one.old for one in recalled]),
            reference_N=_laid(answers, [one.reference for one in recalled]),
            value_N=_laid(answers, [one.values for one in recalled]),
            return_N=_laid(answers, [one.returns for one in given]),
        )


def _laid(answers: AnswerBatch, values: Sequence[Sequence[float] | None]) -> Tensor | None:
    """None where no answer has values; all have them or none."""
    there = [each for each in values if each is not None]
    if there and len(there) < answers.num:
        raise ValueError(f"{len(there)} of {answers.num} answers were recalled: all are, or none")
    return answers.laid(there) if there else None
