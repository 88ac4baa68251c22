"""The right one of several ways to go on from a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from graft.training.batch.batch import Batch
from graft.training.errors import DataError
from graft.training.evaluation.metrics import choice
from graft.training.model.family import facts_of
from graft.training.objective.multiple_choice import CHOICE, IS_THERE, MultipleChoice
from graft.training.objective.sequence_classification import SequenceClassification
from graft.training.tasks.framing.example import Example, inputs_of
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.framing.lengths import CUT, Lengths
from graft.training.tasks.head import Head
from graft.training.tasks.names import CHOICES
from graft.training.tasks.rows.choices import Choices
from graft.training.tasks.task import Setup


@dataclass(frozen=True, kw_only=True)
class Options(Example):
    """A row's choices, each behind the prompt. ``ids`` are all of them, for their number."""

    each: Sequence[Example]

    @property
    def sequences(self) -> Sequence[Sequence[int]]:
        return [one.ids for one in self.each]


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """``by_rows``: a decoder has one score at the end of each choice (Radford et al. 2018, §3.3)."""

    frame: Frame
    lengths: Lengths
    by_rows: bool

    @classmethod
    def of(cls, path: Path, numbered: Sequence[tuple[int, Choices]], setup: Setup) -> Self:
        """Raises ``DataError`` where the same choice is always right."""
        if setup.trained is None and len(numbered) > 1 and len({row.right for _, row in numbered}) == 1:
            raise DataError(
                f"{path} has the label {numbered[0][1].right} in all rows: that place would be learned, not what "
                "stands there; put the right choices in different places."
            )
        frame = setup.frame if setup.frame.joint is None else replace(setup.frame, joint=" ")
        return cls(frame=frame, lengths=setup.lengths, by_rows=facts_of(setup.config).kind == "decoder")

    @property
    def head(self) -> Head:
        if not self.by_rows:
            return Head(auto=MultipleChoice.model_class)
        return Head(auto=SequenceClassification.model_class, options={"num_labels": 1})

    @property
    def objective(self) -> MultipleChoice:
        return MultipleChoice(by_rows=self.by_rows)

    @property
    def measures(self) -> tuple[str, ...]:
        return choice.ALL[CHOICES]

    def examples(self, row: Choices) -> list[Example]:
        each: list[Example] = []
        for text in row.choices:
            texts = [row.prompt, text] if self.frame.joint is None else [row.prompt + self.frame.joint + text]
            parts = [self.frame.text(one) for one in texts]
            added = self.frame.num_added(is_pair=len(parts) > 1)
            if not self.lengths.holds(sum(map(len, parts)) + added):
                if self.lengths.long_rows != CUT:
                    return []
                parts = self.lengths.cut(*parts, added=added)
            framed = self.frame.pair(*parts) if len(parts) > 1 else self.frame.single(*parts)
            each.append(Example(ids=framed.ids, types=framed.types))
        return [Options(ids=[id for one in each for id in one.ids], asked={CHOICE: row.right}, each=each)]

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Where a row has fewer choices than another, its first stands in their place and is not looked at."""
        options: Any = examples
        most = max(len(one.each) for one in options)
        flat = [one.each[at if at < len(one.each) else 0] for one in options for at in range(most)]
        inputs = inputs_of(flat, pad_id=self.frame.pad_id, has_types=self.frame.has_types)
        shaped = {name: one.view(len(examples), most, -1) for name, one in inputs.items()}
        is_there = torch.tensor([[at < len(one.each) for at in range(most)] for one in options])
        right = torch.tensor([example.asked[CHOICE] for example in examples])
        return Batch(inputs={**shaped, IS_THERE: is_there}, labels={CHOICE: right})

    def said(self, model: nn.Module, batch: Batch) -> tuple[Mapping[str, Tensor], list[Any]]:
        answers = self.objective.answers(model, batch)
        return self.objective.sums_of(answers, batch), answers[CHOICE].argmax(1).tolist()

    def metrics(self, rows: Sequence[Choices], examples: Sequence[Example], said: Sequence[Any]) -> dict[str, float]:
        right = [example.asked[CHOICE] for example in examples]
        return {"accuracy": sum(one == other for one, other in zip(said, right, strict=True)) / len(right)}
