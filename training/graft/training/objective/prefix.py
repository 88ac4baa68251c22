"""Prefix language modelling (Liu et al. 2018, arXiv:1801.10198; T5's, Raffel et al. 2020, arXiv:1910.10683, §3.2.1).

The first part of a text is read from both sides; the rest is predicted token by token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from transformers import AutoModelForCausalLM

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.corpus.texts import Sentences, flat
from graft.training.objective.head import labelled
from graft.training.objective.masks import decoder_of, fitting
from graft.training.objective.objective import rows_of
from graft.training.objective.text_objective import TextObjective


def prefix_mask(prefix_B: Tensor, length_B: Tensor, length: int) -> Tensor:
    """Who may see whom. Shape: (B, 1, L, L), true where the row's query may see the column's key."""
    at = torch.arange(length)
    is_text_BL = at < length_B[:, None]
    seen_BLL = (at[:, None] >= at) | (at < prefix_B[:, None])[:, None, :]
    # Padding sees itself: a row that sees nothing is not a number.
    return ((seen_BLL & is_text_BL[:, None, :]) | torch.eye(length, dtype=torch.bool))[:, None]


@dataclass(frozen=True, kw_only=True)
class PrefixObjective(TextObjective):
    """Any decoder: each text is cut at a random place, anew whenever it is seen. It ends with the end token."""

    model_class: ClassVar[Any] = AutoModelForCausalLM
    needs: ClassVar[tuple[str, ...]] = ("sep",)
    weights: Mapping[str, float] = field(default_factory=lambda: {"tokens": 1.0})

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        rows = [[*flat(document)[: self.length - 1], self.vocabulary.sep] for document in documents]
        ids_BL = rows_of(rows, length=self.length, fill=self.vocabulary.pad_id)
        length_B = torch.tensor([len(row) for row in rows])
        prefix_B = (torch.rand(len(rows), generator=generator) * (length_B - 1)).long() + 1
        at = torch.arange(self.length)
        predicts_BL = (at >= prefix_B[:, None] - 1) & (at < length_B[:, None] - 1)
        return Batch(
            inputs={
                "input_ids": ids_BL,
                "attention_mask": prefix_mask(prefix_B, length_B, self.length),
                "position_ids": at.expand(len(rows), -1),
            },
            labels={"tokens": torch.where(predicts_BL, ids_BL.roll(-1, dims=1), IGNORED)},
        )

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        mask = fitting(decoder_of(model), batch.inputs["attention_mask"])
        inputs = {**batch.inputs, "attention_mask": mask, "use_cache": False}
        found = labelled(model, batch.labels["tokens"], num_asked=batch.num_labels["tokens"], **inputs)
        return {"tokens": found.logits}
