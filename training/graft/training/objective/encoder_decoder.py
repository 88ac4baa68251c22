"""What encoder-decoders have in common."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM

from graft.training.batch.batch import Batch
from graft.training.batch.packing import IGNORED
from graft.training.objective.head import labelled
from graft.training.objective.objective import rows_of
from graft.training.objective.text_objective import TextObjective


@dataclass(frozen=True, kw_only=True)
class SequenceToSequence(TextObjective):
    """The encoder reads a source; the decoder writes its target, each token from those before it."""

    model_class: ClassVar[Any] = AutoModelForSeq2SeqLM
    weights: Mapping[str, float] = field(default_factory=lambda: {"tokens": 1.0})

    @property
    @abstractmethod
    def row_lengths(self) -> tuple[float, float]:
        """Tokens that a full row has on average: that are read, and that are written."""

    def batch(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *, target_length: int) -> Batch:
        lengths = torch.tensor([len(source) for source in sources])
        return Batch(
            inputs={
                "input_ids": rows_of(sources, length=self.length, fill=self.vocabulary.pad_id),
                "attention_mask": (torch.arange(self.length) < lengths[:, None]).long(),
            },
            labels={"tokens": rows_of(targets, length=target_length, fill=IGNORED)},
        )

    def sums(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        return {"tokens": target_sum(model, batch)}


def target_sum(model: nn.Module, batch: Batch) -> Tensor:
    """−log p of the target's tokens, ``labels["tokens"]`` (B, T), summed, each from those before it."""
    labels_BT = batch.labels["tokens"]
    shifted_BT = model.prepare_decoder_input_ids_from_labels(labels_BT)
    inputs = {**batch.inputs, "decoder_input_ids": shifted_BT}
    total: Tensor = labelled(model, labels_BT, num_asked=batch.num_labels["tokens"], **inputs).logits
    return total
