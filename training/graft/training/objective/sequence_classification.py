"""A class, several classes, or a number for a whole row: from the head behind an encoder's first token (BERT: Devlin et
al. 2019, arXiv:1810.04805, §4.1), a decoder's last (Radford et al. 2018, §3.2), or the decoder's last of an
encoder-decoder (BART: Lewis et al. 2020, arXiv:1910.13461, §3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from graft.training.batch.batch import Batch
from graft.training.objective.answering import AnsweringObjective, Answers, called
from graft.training.objective.objective import cross_entropy, places

ONE: Final = "single_label_classification"
SEVERAL: Final = "multi_label_classification"
NUMBER: Final = "regression"
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
"""Hugging Face's names (``config.problem_type``)."""
LABEL, TARGET = "label", "target"


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(AnsweringObjective):
    """``labels["label"]`` is of one class its number (B,), of several 0 or 1 for each (B, C). A number to come near is
    in ``inputs["target"]`` (B,), as any value may be one, and the label says whether it is asked for.

    The loss is the cross-entropy of a class, the binary one of each class, or the square of a distance.
    """

    model_class: ClassVar[Any] = AutoModelForSequenceClassification
    problem: Problem = ONE
    weights: Mapping[str, float] = field(default_factory=lambda: {LABEL: 1.0})

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """Shape: (B, C)."""
        return {LABEL: called(model, batch, without=frozenset((TARGET,))).logits.float()}

    def sums_of(self, answers: Answers, batch: Batch) -> Mapping[str, Tensor]:
        logits_BC, labels = answers[LABEL], batch.labels[LABEL]
        if self.problem == ONE:
            return {LABEL: cross_entropy(logits_BC, labels)}
        asked_N = places(labels, batch.num_labels[LABEL])
        if self.problem == NUMBER:
            distance_N = (logits_BC[:, 0] - batch.inputs[TARGET].float())[asked_N]
            return {LABEL: distance_N.square().sum()}
        chosen_N, wanted_N = logits_BC.flatten()[asked_N], labels.flatten()[asked_N].float()
        return {LABEL: functional.binary_cross_entropy_with_logits(chosen_N, wanted_N, reduction="sum")}
