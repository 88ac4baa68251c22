"""Which of several continuations is right: each is read behind the prompt and gets a score, and the scores of a row are
a distribution (Radford et al. 2018, §3.3; BERT on SWAG: Devlin et al. 2019, arXiv:1810.04805, §4.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForMultipleChoice

from graft.training.batch.batch import Batch
from graft.training.objective.answering import AnsweringObjective, Answers, called
from graft.training.objective.objective import cross_entropy

CHOICE, IS_THERE = "choice", "is_there"


@dataclass(frozen=True, kw_only=True)
class MultipleChoice(AnsweringObjective):
    """Inputs have the shape (B, C, L); ``inputs["is_there"]`` (B, C) says which of the C choices a row has.

    ``by_rows`` is for models with one score for a row of tokens, such as decoders with a head for one label.
    """

    model_class: ClassVar[Any] = AutoModelForMultipleChoice
    by_rows: bool = False
    weights: Mapping[str, float] = field(default_factory=lambda: {CHOICE: 1.0})

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """Shape: (B, C)."""
        is_there_BC = batch.inputs[IS_THERE]
        if self.by_rows:
            rows = {name: one.flatten(0, 1) for name, one in batch.inputs.items() if name != IS_THERE}
            scores_BC = model(**rows).logits.view(is_there_BC.shape)
        else:
            scores_BC = called(model, batch, without=frozenset((IS_THERE,))).logits
        return {CHOICE: scores_BC.float().masked_fill(~is_there_BC, torch.finfo(torch.float32).min)}

    def sums_of(self, answers: Answers, batch: Batch) -> Mapping[str, Tensor]:
        return {CHOICE: cross_entropy(answers[CHOICE], batch.labels[CHOICE])}
