"""Preferences in batches, a new random order in each epoch. Legend: P pairs, S answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import torch

from graft.training.batch.answers import Answer, AnswerBatch
from graft.training.batch.batch import AnyBatch
from graft.training.batch.data import WHOLE, Share
from graft.training.batch.epochs import Epochs
from graft.training.objective.preference.kto import JudgedBatch
from graft.training.objective.preference.pairs import PairBatch
from graft.training.preference.reading import EncodedJudged, EncodedPair


class Batch(AnyBatch, Protocol):
    """Of pairs or of single answers."""

    @property
    def answers(self) -> AnswerBatch: ...

    def silent(self) -> Self: ...


BatchT = TypeVar("BatchT", bound=Batch)


@dataclass(frozen=True, kw_only=True)
class PreferenceData(Generic[BatchT]):
    """The batches of each step."""

    make: Callable[[Sequence[int]], BatchT]
    """Of rows, by their numbers."""
    epochs: Epochs

    @property
    def steps_per_epoch(self) -> int:
        return self.epochs.steps_per_epoch

    def num_steps(self, epochs: float) -> int:
        return self.epochs.num_steps(epochs)

    def batches(self, step: int, share: Share = WHOLE) -> list[BatchT]:
        batches = self.epochs.numbers(step)
        return [
            self.make(batches[0][:1]).silent() if numbers is None else self.make(numbers)
            for numbers in share.alike(batches)
        ]

    def in_order(self) -> list[BatchT]:
        """Those of all rows, as they stand in the file."""
        step = self.epochs.rows_per_batch
        starts = range(0, self.epochs.num_rows, step)
        return [self.make(range(start, min(start + step, self.epochs.num_rows))) for start in starts]


@dataclass(frozen=True, kw_only=True)
class Laying:
    """How answers become lines of a batch."""

    packing: bool
    pad_id: int

    def laid(self, answers: Sequence[Answer]) -> AnswerBatch:
        return AnswerBatch.of(answers, packing=self.packing, pad_id=self.pad_id)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A row is a pair: its two answers are in one batch."""

    rows: Sequence[EncodedPair]
    laying: Laying
    learns_prompts: bool = False
    """Whether the cross-entropy of the chosen is taken over its prompt, too."""
    references: Sequence[Sequence[float]] | None = None
    """What the reference finds of each row's answers, where that is known."""

    def batch(self, numbers: Sequence[int]) -> PairBatch:
        rows = [self.rows[number] for number in numbers]
        chosen = [row.chosen.whole() if self.learns_prompts else row.chosen for row in rows]
        margins = [row.margin for row in rows if row.margin is not None]
        reference_S = None
        if self.references is not None:
            reference_S = torch.tensor([self.references[number] for number in numbers]).T.flatten()
        return PairBatch(
            answers=self.laying.laid([*chosen, *(row.rejected for row in rows)]),
            margin_P=torch.tensor(margins) if margins else None,
            reference_S=reference_S,
        )


@dataclass(frozen=True, kw_only=True)
class JudgedAnswers:
    """A row is an answer with a label."""

    rows: Sequence[EncodedJudged]
    laying: Laying
    estimates_divergence: bool = True
    """Whether each batch has its answers behind one another's prompts, too."""
    references: Sequence[Sequence[float]] | None = None

    def batch(self, numbers: Sequence[int]) -> JudgedBatch:
        answers = [self.rows[number].answer for number in numbers]
        reference_S = None
        if self.references is not None:
            reference_S = torch.tensor([self.references[number] for number in numbers]).flatten()
        return JudgedBatch(
            answers=self.laying.laid(answers),
            mismatched=self._mismatched(numbers, answers) if self.estimates_divergence else None,
            is_desirable_S=torch.tensor([self.rows[number].is_desirable for number in numbers]),
            reference_S=reference_S,
        )

    def _mismatched(self, numbers: Sequence[int], answers: Sequence[Answer]) -> AnswerBatch:
        """Each answer behind the prompt of the next row, the last behind the first one's, as in TRL; that of the row
        before it in the file, where there is a single one.
        """
        before = [answers[-1], *answers[:-1]] if len(answers) > 1 else [self.rows[numbers[0] - 1].answer]
        return self.laying.laid([one.behind(own) for one, own in zip(before, answers, strict=True)])
