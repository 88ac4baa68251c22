"""A text from a text: summaries, translations, answers without a context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from graft.training.batch.batch import Batch
from graft.training.evaluation.metrics import choice, written_texts
from graft.training.objective.text_to_text import TextToText
from graft.training.tasks.framing.example import Example, filled, inputs_of, padded_length
from graft.training.tasks.framing.frame import Frame
from graft.training.tasks.framing.lengths import CUT, Lengths
from graft.training.tasks.head import Head
from graft.training.tasks.names import WRITING
from graft.training.tasks.rows.written import Written
from graft.training.tasks.task import Setup

TARGET = "tokens"


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Both texts are framed as the tokenizer does it (T5: an end token; BART: a begin token, too)."""

    frame: Frame
    tokenizer: PreTrainedTokenizerFast
    sources: Lengths
    targets: Lengths
    prefix: str
    num_beams: int

    @classmethod
    def of(cls, path: Path, numbered: Sequence[tuple[int, Written]], setup: Setup) -> Self:
        settings = setup.settings
        return cls(
            frame=setup.frame,
            tokenizer=setup.tokenizer,
            sources=setup.lengths,
            targets=Lengths(most=settings.max_target_length, long_rows=settings.long_rows, name="max_target_length"),
            prefix=settings.source_prefix,
            num_beams=settings.num_beams,
        )

    @property
    def head(self) -> Head:
        return Head(auto=TextToText.model_class)

    @property
    def objective(self) -> TextToText:
        return TextToText()

    @property
    def measures(self) -> tuple[str, ...]:
        return choice.ALL[WRITING]

    def examples(self, row: Written) -> list[Example]:
        source = self._framed(self.prefix + row.source, self.sources)
        target = self._framed(row.target, self.targets)
        if source is None or target is None:
            return []
        return [Example(ids=source, asked={TARGET: target})]

    def batch(self, examples: Sequence[Example]) -> Batch:
        inputs = inputs_of(examples, pad_id=self.frame.pad_id, has_types=False)
        asked: list[Any] = [example.asked[TARGET] for example in examples]
        return Batch(inputs=inputs, labels={TARGET: filled(asked, padded_length(max(map(len, asked))))})

    def said(self, model: nn.Module, batch: Batch) -> tuple[Mapping[str, Tensor], list[Any]]:
        sums = self.objective.sums(model, batch)
        ids_BT = model.generate(
            **batch.inputs, max_new_tokens=self.targets.most, num_beams=self.num_beams, do_sample=False
        )
        return sums, [text.strip() for text in self.tokenizer.batch_decode(ids_BT, skip_special_tokens=True)]

    def metrics(self, rows: Sequence[Written], examples: Sequence[Example], said: Sequence[Any]) -> dict[str, float]:
        return written_texts.of_texts(said, [rows[example.row].target for example in examples])

    def _framed(self, text: str, lengths: Lengths) -> list[int] | None:
        ids, added = self.frame.text(text), self.frame.num_added(is_pair=False)
        if not lengths.holds(len(ids) + added):
            if lengths.long_rows != CUT:
                return None
            (ids,) = lengths.cut(ids, added=added)
        return self.frame.single(ids).ids
