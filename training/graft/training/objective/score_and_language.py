"""A decoder's classification with next tokens beside it, which it learns faster with and generalises better (Radford et
al. 2018, "Improving Language Understanding by Generative Pre-Training", eq. 5: L3 = L2 + λ L1).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.training.batch.batch import Batch
from graft.training.objective.answering import Answers
from graft.training.objective.head import head_cross_entropy
from graft.training.objective.sequence_classification import LABEL, SequenceClassification

TOKENS = "tokens"


class WithLanguageHead(nn.Module):
    """A decoder that classifies, and the head for next tokens that it had before. The decoder is the product."""

    def __init__(self, classifier: PreTrainedModel, head: nn.Linear) -> None:
        """A head that is tied to the embeddings must be tied to the classifier's."""
        super().__init__()
        self.classifier, self.head = classifier, head

    @property
    def parts(self) -> Mapping[str, PreTrainedModel]:
        return {"": self.classifier}

    def forward(self, compute: Callable[[WithLanguageHead], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Under sharding the weights are whole in here."""
        return compute(self)


@dataclass(frozen=True, kw_only=True)
class ScoreAndLanguage:
    """``labels["tokens"]`` (B, L) are shifted already: what each place predicts. Of rows that are only measured the
    label alone is looked at.
    """

    score: SequenceClassification
    lm_coef: float
    """λ; 0.5 in §4.1."""

    @property
    def weights(self) -> Mapping[str, float]:
        return {LABEL: 1.0, TOKENS: self.lm_coef}

    def counts(self, batch: Batch) -> Mapping[str, int]:
        return batch.num_labels

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        answers: Answers = model(lambda both: self.score.answers(both.classifier, batch))
        return answers

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        sums: Mapping[str, Tensor] = model(functools.partial(self._sums, batch))
        return sums

    def _sums(self, batch: Batch, model: WithLanguageHead) -> Mapping[str, Tensor]:
        with _states_of(model.classifier) as states:
            found = self.score.sums(model.classifier, batch)
        head, labels_BL = model.head, batch.labels[TOKENS]
        num_asked = batch.num_labels[TOKENS]
        return {**found, TOKENS: head_cross_entropy(states[0], head.weight, head.bias, labels_BL, num_asked=num_asked)}


@contextlib.contextmanager
def _states_of(classifier: PreTrainedModel) -> Iterator[list[Tensor]]:
    """What the decoder below the head gives meanwhile. Shape: (B, L, D)."""
    found: list[Tensor] = []
    handle = classifier.base_model.register_forward_hook(lambda _, __, output: found.append(_first(output)))
    try:
        yield found
    finally:
        handle.remove()


def _first(output: Any) -> Tensor:
    states: Tensor = output[0]
    return states
