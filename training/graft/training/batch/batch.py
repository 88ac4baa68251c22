"""What a step reads: a batch, and how many things each term of a loss sums over in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from graft.training.batch.packing import IGNORED


class Counted(Protocol):
    """A batch that knows how many things each term of its loss sums over, before the loss is computed."""

    @property
    def counts(self) -> Mapping[str, int]: ...

    @property
    def num_tokens(self) -> int:
        """Tokens that are read, padding left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a Hugging Face model is called with, and what it has to say. Legend: B rows, L tokens per row."""

    inputs: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    """Of each term; ``IGNORED`` where nothing is asked."""

    @property
    def counts(self) -> Mapping[str, int]:
        return {name: int((labels != IGNORED).sum()) for name, labels in self.labels.items()}

    def silent(self) -> "Batch":
        """The same, of which nothing is asked: it changes nothing."""
        labels = {name: torch.full_like(one, IGNORED) for name, one in self.labels.items()}
        return Batch(inputs=self.inputs, labels=labels)

    def to(self, device: str) -> "Batch":
        """The same on another device."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        return Batch(inputs=inputs, labels={name: tensor.to(device) for name, tensor in self.labels.items()})

    @property
    def num_tokens(self) -> int:
        ids = self.inputs["input_ids"]
        mask = self.inputs.get("attention_mask")
        return int(mask.sum()) if mask is not None and mask.shape == ids.shape else ids.numel()
