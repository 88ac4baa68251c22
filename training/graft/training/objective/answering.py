"""What objectives of models with heads have in common: what a model answers is learned from, and measured as well."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from graft.training.batch.batch import Batch

Answers = Mapping[str, Tensor]
"""Logits of each question, in float32."""


@dataclass(frozen=True, kw_only=True)
class AnsweringObjective(ABC):
    """Every question of a batch has logits of a head."""

    weights: Mapping[str, float]
    """The factor of each question's mean."""

    @abstractmethod
    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """What the model says to each question."""

    @abstractmethod
    def sums_of(self, answers: Answers, batch: Batch) -> Mapping[str, Tensor]:
        """The loss of each question, summed, in nats."""

    def counts(self, batch: Batch) -> Mapping[str, int]:
        return batch.num_labels

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return self.sums_of(self.answers(model, batch), batch)


def called(model: nn.Module, batch: Batch, *, without: frozenset[str] = frozenset()) -> Any:
    """The output of a Hugging Face model for a batch's inputs, but for those that are not its own."""
    return model(**{name: one for name, one in batch.inputs.items() if name not in without})
