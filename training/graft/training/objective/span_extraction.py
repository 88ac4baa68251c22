"""Where in a text an answer begins and ends (BERT: Devlin et al. 2019, arXiv:1810.04805, §4.2 and §4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoModelForQuestionAnswering

from graft.training.batch.batch import Batch
from graft.training.objective.answering import AnsweringObjective, Answers, called
from graft.training.objective.objective import cross_entropy

START, END = "start", "end"


@dataclass(frozen=True, kw_only=True)
class SpanExtraction(AnsweringObjective):
    """``labels["start"]`` and ``labels["end"]`` are places of a row's tokens, both its first where the answer is not
    there (§4.3). Shape: (B,). Both count half.
    """

    model_class: ClassVar[Any] = AutoModelForQuestionAnswering
    weights: Mapping[str, float] = field(default_factory=lambda: {START: 0.5, END: 0.5})

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """Shape: (B, L)."""
        output = called(model, batch)
        return {START: output.start_logits.float(), END: output.end_logits.float()}

    def sums_of(self, answers: Answers, batch: Batch) -> Mapping[str, Tensor]:
        return {name: cross_entropy(answers[name], batch.labels[name]) for name in self.weights}
