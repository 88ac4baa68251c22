"""From lessons to micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.training.batch.answers import AnswerBatch
from graft.training.batch.order import shuffled
from graft.training.batch.packing import padded
from graft.training.objective.reinforce.batch import RolloutBatch
from graft.training.reinforce.lesson import Lesson
from graft.training.reinforce.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class Laying:
    """How answers become micro-batches."""

    pad_id: int
    tokens: int
    """Of a micro-batch, padding counted; where a single line is longer, of that."""
    packing: bool = True

    def parts(self, rollouts: Sequence[Rollout]) -> list[list[int]]:
        """Numbers of the answers in each micro-batch, the longest first. Lines are filled as ``AnswerBatch`` does."""
        sizes = [len(one.prompt_ids) + len(one.answer_ids) for one in rollouts]
        parts, rooms, length = list[list[int]](), list[int](), 0
        for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
            size = sizes[number]
            room = min((room for room in rooms if self.packing and room >= size), default=None)
            if room is None and (not parts or length * (len(rooms) + 1) > self.tokens):
                parts.append([])
                rooms, length = [], padded(size)
            if room is not None:
                rooms.remove(room)
            rooms.append((length if room is None else room) - size)
            parts[-1].append(number)
        return parts

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
