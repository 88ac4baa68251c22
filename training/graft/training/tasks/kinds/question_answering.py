"""The span of a context that answers a question. A long context is read in windows that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Unspellable
from graft.training.batch.batch import Batch
from graft.training.errors import DataError
from graft.training.evaluation.metrics import choice, spoken_answers
from graft.training.objective.span_extraction import END, START, SpanExtraction
from graft.training.tasks.framing.example import Example, inputs_of
from graft.training.tasks.framing.frame import Frame, Framed
from graft.training.tasks.framing.lengths import Lengths
from graft.training.tasks.head import Head
from graft.training.tasks.names import QUESTIONS
from graft.training.tasks.rows.questions import Answer, Question
from graft.training.tasks.task import Setup

Place = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window(Example):
    """Some of a context's tokens behind the question."""

    places: Sequence[Place]
    """Of each token of the context: its first character, and the one behind its last."""
    first: int
    """The place of the window's first token of the context among ``ids``."""


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering:
    """``may_lack`` says that there may be no answer: then both places are the row's first token (Devlin et al. 2019,
    §4.3).
    """

    frame: Frame
    lengths: Lengths
    stride: int
    max_answer_length: int
    may_lack: bool

    @classmethod
    def of(cls, path: Path, numbered: Sequence[tuple[int, Question]], setup: Setup) -> Self:
        """Raises ``DataError`` where no question has an answer."""
        if setup.trained is None and not any(row.answers for _, row in numbered):
            raise DataError(f"{path} has no answer to any question: there is nothing to find; add rows with answers.")
        return cls(
            frame=setup.frame.apart(),
            lengths=setup.lengths,
            stride=setup.settings.doc_stride,
            max_answer_length=setup.settings.max_answer_length,
            may_lack=any(not row.answers for _, row in numbered),
        )

    @property
    def head(self) -> Head:
        return Head(auto=SpanExtraction.model_class)

    @property
    def objective(self) -> SpanExtraction:
        return SpanExtraction()

    @property
    def measures(self) -> tuple[str, ...]:
        return choice.ALL[QUESTIONS]

    def examples(self, row: Question) -> list[Example]:
        question = self.frame.text(row.question)
        ids, places = self._placed(row.context)
        room = self.lengths.most - len(question) - self.frame.num_added(is_pair=True)
        if room <= self.stride:
            raise BadLine(
                f"its question leaves {max(0, room)} of max_length {self.lengths.most} tokens to the context, and "
                f"windows share {self.stride}: lower doc_stride or raise max_length."
            )
        answer = row.answers[0] if row.answers else None
        span = None if answer is None else _span(places, answer)
        return [
            self._window(self.frame.pair(question, ids[at : at + room]), places[at : at + room], span, at)
            for at in _begins(len(ids), room, self.stride)
        ]

    def batch(self, examples: Sequence[Example]) -> Batch:
        inputs = inputs_of(examples, pad_id=self.frame.pad_id, has_types=self.frame.has_types)
        return Batch(inputs=inputs, labels={name: _column(examples, name) for name in (START, END)})

    def said(self, model: nn.Module, batch: Batch) -> tuple[Mapping[str, Tensor], list[Any]]:
        answers = self.objective.answers(model, batch)
        pairs = zip(answers[START].cpu().numpy(), answers[END].cpu().numpy(), strict=True)
        return self.objective.sums_of(answers, batch), list(pairs)

    def metrics(self, rows: Sequence[Question], examples: Sequence[Example], said: Sequence[Any]) -> dict[str, float]:
        found = self.found(rows, examples, said)
        return spoken_answers.of_answers(found, [[answer.text for answer in row.answers] for row in rows])

    def found(self, rows: Sequence[Question], examples: Sequence[Example], said: Sequence[Any]) -> list[str]:
        """The likeliest span of all of a question's windows; the empty text where the likeliest is that there is none,
        of which the least sure window is believed.
        """
        best = [(-np.inf, "")] * len(rows)
        none = [np.inf] * len(rows)
        for example, (start_L, end_L) in zip(examples, said, strict=True):
            assert isinstance(example, Window)
            score, place = self._best(example, start_L, end_L)
            none[example.row] = min(none[example.row], float(start_L[0] + end_L[0]))
            if score > best[example.row][0]:
                best[example.row] = score, rows[example.row].context[slice(*place)].strip()
        return ["" if self.may_lack and none[row] > score else text for row, (score, text) in enumerate(best)]

    def _best(self, window: Window, start_L: Any, end_L: Any) -> tuple[float, Place]:
        num = len(window.places)
        own = slice(window.first, window.first + num)
        scores = start_L[own, None] + end_L[None, own]
        length = np.arange(num)[None] - np.arange(num)[:, None]
        allowed = (length >= 0) & (length < self.max_answer_length)
        at = int(np.where(allowed, scores, -np.inf).argmax())
        begin, end = divmod(at, num)
        return float(scores[begin, end]), (window.places[begin][0], window.places[end][1])

    def _placed(self, context: str) -> tuple[list[int], list[Place]]:
        try:
            found = self.frame.spelling.placed(context)
        except Unspellable as problem:
            raise BadLine(f"{problem}.") from None
        if found is None:
            raise BadLine("the base's tokenizer does not say where its tokens stand: add its tokenizer.json.")
        if not found[0]:
            raise BadLine("its context is nothing to the base's tokenizer; leave it out.")
        return found

    def _window(self, framed: Framed, places: Sequence[Place], span: tuple[int, int] | None, at: int) -> Window:
        """``span`` is that of the answer's tokens in the whole context."""
        is_here = span is not None and at <= span[0] and span[1] < at + len(places)
        start, end = (one - at + framed.second for one in span) if span is not None and is_here else (0, 0)
        return Window(
            ids=framed.ids, types=framed.types, asked={START: start, END: end}, places=places, first=framed.second
        )


def _begins(num: int, room: int, stride: int) -> Iterator[int]:
    """Where windows of so many tokens begin that share ``stride``; the last one ends the context."""
    at = 0
    yield at
    while at + room < num:
        at += room - stride
        yield at


def _span(places: Sequence[Place], answer: Answer) -> tuple[int, int]:
    """The first and the last token that have a part of the answer. A blank before a word may be a token's."""
    inside = [at for at, (begin, end) in enumerate(places) if end > answer.begin and begin < answer.end and end > begin]
    if not inside:
        raise BadLine(f"its answer {answer.text[:40]!r} is nothing to the base's tokenizer; leave the row out.")
    return inside[0], inside[-1]


def _column(examples: Sequence[Example], name: str) -> Tensor:
    return torch.tensor([example.asked[name] for example in examples])
