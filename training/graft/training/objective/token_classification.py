"""A class for every word of a row: of its first token, the others are not asked (BERT: Devlin et al. 2019,
arXiv:1810.04805, §5.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from graft.training.batch.batch import Batch
from graft.training.objective.answering import AnsweringObjective, Answers, called
from graft.training.objective.objective import cross_entropy

TAGS = "tags"


@dataclass(frozen=True, kw_only=True)
class TokenClassification(AnsweringObjective):
    """``labels["tags"]`` is a class for each token, or ``IGNORED``. Shape: (B, L)."""

    model_class: ClassVar[Any] = AutoModelForTokenClassification
    weights: Mapping[str, float] = field(default_factory=lambda: {TAGS: 1.0})

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """Shape: (B, L, C)."""
        return {TAGS: called(model, batch).logits.float()}

    def sums_of(self, answers: Answers, batch: Batch) -> Mapping[str, Tensor]:
        return {TAGS: cross_entropy(answers[TAGS], batch.labels[TAGS])}
