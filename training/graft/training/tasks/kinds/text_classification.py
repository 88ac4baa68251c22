"""A class, several, or a number for a text or a pair of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from graft.adapters.text.problems import BadLine
from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.errors import DataError
from graft.training.evaluation.metrics import choice, classes, numbers
from graft.training.objective.score_and_language import TOKENS, ScoreAndLanguage
from graft.training.objective.sequence_classification import (
    LABEL,
    NUMBER,
    ONE,
    SEVERAL,
    TARGET,
    Problem,
    SequenceClassification,
)
from graft.training.tasks.framing.example import IDS, MASK, Example, inputs_of
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.framing.lengths import CUT, Lengths
from graft.training.tasks.head import Head, has_head
from graft.training.tasks.labels import Labels, declared_by
from graft.training.tasks.rows.labelled import Labelled, number_of
from graft.training.tasks.rows.reading import shown
from graft.training.tasks.task import Setup


@dataclass(frozen=True, kw_only=True)
class TextClassification:
    """``labels`` is None where a number is said."""

    frame: Frame
    lengths: Lengths
    problem: Problem
    labels: Labels | None
    is_pair: bool
    lm_coef: float = 0.0

    @classmethod
    def of(cls, path: Path, numbered: Sequence[tuple[int, Labelled]], setup: Setup) -> Self:
        """Raises ``DataError`` where the labels are of different kinds, or nothing can be told apart by them."""
        settings, rows = setup.settings, [row for _, row in numbered]
        trained, is_pair = setup.trained, rows[0].pair is not None
        problem: Any = settings.problem_type or _problem(path, numbered)
        labels = None
        if trained is not None:
            problem = trained.problem_type
            labels = None if trained.labels is None else Labels(names=trained.labels)
        elif problem == NUMBER:
            _check_numbers(path, numbered)
        else:
            every = [label for row in rows for label in (row.label if isinstance(row.label, tuple) else (row.label,))]
            found = [label for label in every if not isinstance(label, float)]  # which are told with their lines
            head = has_head(SequenceClassification.model_class, setup.config)
            labels = Labels.of(path, found, known=declared_by(setup.config, settings.label_names, has_head=head))
        return cls(
            frame=setup.frame,
            lengths=setup.lengths,
            problem=problem,
            labels=labels,
            is_pair=is_pair,
            lm_coef=settings.lm_coef,
        )

    @property
    def head(self) -> Head:
        auto = SequenceClassification.model_class
        if self.labels is None:
            return Head(auto=auto, options={"num_labels": 1, "problem_type": self.problem})
        return Head.labelled(auto, self.labels.names, problem_type=self.problem)

    @property
    def objective(self) -> SequenceClassification | ScoreAndLanguage:
        score = SequenceClassification(problem=self.problem)
        return ScoreAndLanguage(score=score, lm_coef=self.lm_coef) if self.lm_coef else score

    @property
    def measures(self) -> tuple[str, ...]:
        return choice.ALL[self.problem]

    def examples(self, row: Labelled) -> list[Example]:
        if (row.pair is not None) != self.is_pair:
            raise BadLine(
                f"it is {'one text' if self.is_pair else 'a pair'}, and the first row of the training is not."
            )
        asked = self._asked(row)
        texts = [self.frame.text(one) for one in self._texts(row)]
        added = self.frame.num_added(is_pair=len(texts) > 1)
        if not self.lengths.holds(sum(map(len, texts)) + added):
            if self.lengths.long_rows != CUT:
                return []
            texts = self.lengths.cut(*texts, added=added)
        framed = self.frame.pair(*texts) if len(texts) > 1 else self.frame.single(*texts)
        return [Example(ids=framed.ids, types=framed.types, asked=asked)]

    def batch(self, examples: Sequence[Example]) -> Batch:
        inputs = inputs_of(examples, pad_id=self.frame.pad_id, has_types=self.frame.has_types)
        answers = [example.asked[LABEL] for example in examples]
        if self.problem == NUMBER:
            inputs[TARGET] = torch.tensor(answers, dtype=torch.float32)
            return Batch(inputs=inputs, labels={LABEL: torch.zeros(len(examples), dtype=torch.long)})
        labels = {LABEL: torch.tensor(answers)}
        if self.lm_coef:
            ids_BL = inputs[IDS].masked_fill(inputs[MASK] == 0, IGNORED)
            labels[TOKENS] = torch.cat([ids_BL[:, 1:], torch.full((len(ids_BL), 1), IGNORED)], dim=1)
        return Batch(inputs=inputs, labels=labels)

    def said(self, model: nn.Module, batch: Batch) -> tuple[Mapping[str, Tensor], list[Any]]:
        score = SequenceClassification(problem=self.problem)
        answers = self.objective.answers(model, batch)
        return score.sums_of(answers, batch), answers[LABEL].tolist()

    def metrics(self, rows: Sequence[Labelled], examples: Sequence[Example], said: Sequence[Any]) -> dict[str, float]:
        right = [example.asked[LABEL] for example in examples]
        logits_NC = np.array(said)
        if self.problem == NUMBER:
            return numbers.of_numbers(logits_NC[:, 0].tolist(), right)  # type: ignore[arg-type]
        if self.problem == SEVERAL:
            return classes.of_several((logits_NC > 0).astype(np.int64), np.array(right))
        assert self.labels is not None
        chosen = logits_NC.argmax(1).tolist()
        return classes.of_one(chosen, right, num_classes=len(self.labels.names))  # type: ignore[arg-type]

    def _texts(self, row: Labelled) -> list[str]:
        """Those that stay apart in the frame."""
        if row.pair is None:
            return [row.text]
        return [row.text, row.pair] if self.frame.joint is None else [row.text + self.frame.joint + row.pair]

    def _asked(self, row: Labelled) -> dict[str, int | float | Sequence[int]]:
        label = row.label
        if self.problem == NUMBER:
            if isinstance(label, str | tuple):
                raise BadLine(f"label must be a number, not {shown(label)}.")
            return {LABEL: number_of(label)}
        assert self.labels is not None
        if self.problem == SEVERAL:
            chosen = {self.labels.number(one) for one in (label if isinstance(label, tuple) else (_whole(label),))}
            return {LABEL: [int(number in chosen) for number in range(len(self.labels.names))]}
        if isinstance(label, tuple):
            raise BadLine(f"label must be one class, not {shown(list(label))}; take multi_label_classification.")
        return {LABEL: self.labels.number(_whole(label))}


def _whole(label: str | int | float) -> str | int:
    if isinstance(label, float):
        raise BadLine(f"label {label} is no class: write its name or its number.")
    return label


def _problem(path: Path, numbered: Sequence[tuple[int, Labelled]]) -> Problem:
    """By the kind of the labels."""
    lists = [number for number, row in numbered if isinstance(row.label, tuple)]
    if lists and len(lists) < len(numbered):
        other = next(number for number, row in numbered if not isinstance(row.label, tuple))
        raise DataError(f"{path}, line {other}: its label is no list, and that of line {lists[0]} is; write all alike.")
    if lists:
        return SEVERAL
    return NUMBER if any(isinstance(row.label, float) for _, row in numbered) else ONE


def _check_numbers(path: Path, numbered: Sequence[tuple[int, Labelled]]) -> None:
    values = {row.label for _, row in numbered}
    if len(values) == 1:
        raise DataError(f"{path} has the label {shown(values.pop())} in all rows: there is nothing to learn from it.")
