"""A class for every word of a sentence: names, parts of speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from graft.adapters.text.problems import BadLine
from graft.adapters.text.spelling import Unspellable
from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.evaluation.metrics import choice, entities
from graft.training.objective.token_classification import TAGS, TokenClassification
from graft.training.tasks.framing.example import Example, filled, inputs_of
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.framing.lengths import CUT, Lengths
from graft.training.tasks.head import Head, has_head
from graft.training.tasks.labels import Labels, declared_by
from graft.training.tasks.names import TOKENS
from graft.training.tasks.rows.reading import shown
from graft.training.tasks.rows.tagged import Tagged
from graft.training.tasks.task import Setup


@dataclass(frozen=True, kw_only=True)
class Tagging:
    """Words stand in a row with blanks between them; the first token of each has its tag."""

    frame: Frame
    lengths: Lengths
    labels: Labels

    @classmethod
    def of(cls, path: Path, numbered: Sequence[tuple[int, Tagged]], setup: Setup) -> Self:
        """Raises ``DataError``."""
        if setup.trained is not None and setup.trained.labels is not None:
            return cls(frame=setup.frame, lengths=setup.lengths, labels=Labels(names=setup.trained.labels))
        tags = [tag for _, row in numbered for tag in row.tags]
        head = has_head(TokenClassification.model_class, setup.config)
        known = declared_by(setup.config, setup.settings.label_names, has_head=head)
        return cls(frame=setup.frame, lengths=setup.lengths, labels=Labels.of(path, tags, known=known))

    @property
    def head(self) -> Head:
        return Head.labelled(TokenClassification.model_class, self.labels.names)

    @property
    def objective(self) -> TokenClassification:
        return TokenClassification()

    @property
    def measures(self) -> tuple[str, ...]:
        return choice.ALL[TOKENS]

    def examples(self, row: Tagged) -> list[Example]:
        """Of a row that is cut, the last words go."""
        numbers = [self.labels.number(tag) for tag in row.tags]
        pieces = self._pieces(row.words)
        added = self.frame.num_added(is_pair=False)
        if not self.lengths.holds(sum(map(len, pieces)) + added):
            if self.lengths.long_rows != CUT:
                return []
            while sum(map(len, pieces)) + added > self.lengths.most:
                pieces.pop()
        if not pieces:
            raise BadLine(f"max_length {self.lengths.most} leaves no room for its first word; raise it.")
        framed = self.frame.single([id for piece in pieces for id in piece])
        asked = [IGNORED] * len(framed.ids)
        places = accumulate(map(len, pieces[:-1]), initial=framed.second)
        for place, number in zip(places, numbers, strict=False):
            asked[place] = number
        return [Example(ids=framed.ids, types=framed.types, asked={TAGS: asked})]

    def batch(self, examples: Sequence[Example]) -> Batch:
        inputs = inputs_of(examples, pad_id=self.frame.pad_id, has_types=self.frame.has_types)
        asked: list[Any] = [example.asked[TAGS] for example in examples]
        return Batch(inputs=inputs, labels={TAGS: filled(asked, inputs["input_ids"].shape[1])})

    def said(self, model: nn.Module, batch: Batch) -> tuple[Mapping[str, Tensor], list[Any]]:
        answers = self.objective.answers(model, batch)
        tags_BL, asked_BL = answers[TAGS].argmax(-1), batch.labels[TAGS] != IGNORED
        said = [tags[asked].tolist() for tags, asked in zip(tags_BL, asked_BL, strict=True)]
        return self.objective.sums_of(answers, batch), said

    def metrics(self, rows: Sequence[Tagged], examples: Sequence[Example], said: Sequence[Any]) -> dict[str, float]:
        right: list[Any] = [[tag for tag in example.asked[TAGS] if tag != IGNORED] for example in examples]  # type: ignore[union-attr]
        return entities.of_tags(self._names(said), self._names(right))

    def _names(self, numbers: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[self.labels.names[number] for number in row] for row in numbers]

    def _pieces(self, words: Sequence[str]) -> list[list[int]]:
        """Ids of each word where it stands."""
        ends = [end - 1 for end in accumulate(len(word) + 1 for word in words)]
        try:
            pieces = self.frame.spelling.pieces(" ".join(words), ends[:-1])
        except Unspellable as problem:
            raise BadLine(f"{problem}.") from None
        if len(pieces) != len(words):
            raise BadLine("the base's tokenizer does not say where its tokens stand: add its tokenizer.json.")
        if empty := next((word for word, piece in zip(words, pieces, strict=True) if not piece), None):
            raise BadLine(f"the token {shown(empty)} is nothing to the base's tokenizer; leave it out, with its tag.")
        return pieces
