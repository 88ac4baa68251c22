"""Permutation language modelling (XLNet: Yang et al. 2019, arXiv:1906.08237, §2.2 and §2.3).

A token is predicted from those before it in a random order of the text (eq. 3). Only the last 1 / K of each order is
predicted (eq. 5); the others see one another and are seen by all.
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
from graft.training.objective.objective import cross_entropy, rows_of
from graft.training.objective.text_objective import TextObjective

K = 6
"""The paper's choice: a sixth of the tokens is predicted."""


def hidden(order_L: Tensor, predicted_L: Tensor) -> Tensor:
    """Who must not see whom. Shape: (L, L), true where the row's token may not attend to the column's.

    A predicted token is seen by those that come later in the order, and by none before, itself included: XLNet's second
    stream gives it its own content.
    """
    rank_L = torch.where(predicted_L, order_L, -1)
    return (rank_L[:, None] <= rank_L[None, :]) & predicted_L[None, :]


@dataclass(frozen=True, kw_only=True)
class PermutationObjective(TextObjective):
    """``text [SEP] [CLS]``, as XLNet has it; padding in front."""

    model_class: ClassVar[Any] = AutoModelForCausalLM
    needs: ClassVar[tuple[str, ...]] = ("cls", "sep")
    weights: Mapping[str, float] = field(default_factory=lambda: {"tokens": 1.0})

    def collate(self, documents: Sequence[Sentences], generator: Generator) -> Batch:
        vocabulary, length = self.vocabulary, self.length
        texts = [flat(document)[: length - 2] for document in documents]
        rows = [
            [vocabulary.pad_id] * (length - 2 - len(text)) + [*text, vocabulary.sep, vocabulary.cls] for text in texts
        ]
        ids_BL = rows_of(rows, length=length, fill=vocabulary.pad_id)
        is_text_BL = ~vocabulary.special_V[ids_BL]
        hidden_BLL = torch.zeros(len(rows), length, length)
        num_predicted = max(1, max(map(len, texts)) // K)
        mapping_BPL = torch.zeros(len(rows), num_predicted, length)
        labels_BP = torch.full((len(rows), num_predicted), IGNORED)
        for row, text in enumerate(texts):
            order = torch.randperm(length, generator=generator)
            places = is_text_BL[row].nonzero().flatten()
            last = places[order[places].argsort(descending=True)][: len(text) // K].sort().values
            predicted = torch.zeros(length, dtype=torch.bool)
            predicted[last] = True
            hidden_BLL[row] = hidden(order, predicted).float()
            mapping_BPL[row, torch.arange(len(last)), last] = 1.0
            labels_BP[row, : len(last)] = ids_BL[row, last]
        return Batch(
            inputs={
                "input_ids": ids_BL,
                "attention_mask": (ids_BL != vocabulary.pad_id).float(),
                "perm_mask": hidden_BLL,
                "target_mapping": mapping_BPL,
            },
            labels={"tokens": labels_BP},
        )

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {"tokens": cross_entropy(model(**batch.inputs, use_mems=False).logits, batch.labels["tokens"])}
