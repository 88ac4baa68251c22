"""What a step reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from graft.training.batch.packing import IGNORED


class AnyBatch(Protocol):
    """What every batch knows of itself."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are read, padding left out."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a Hugging Face model is called with, and what it has to say. Legend: B rows, L tokens per row."""

    inputs: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    """Of each question; ``IGNORED`` where nothing is asked."""

    @property
    def num_labels(self) -> Mapping[str, int]:
        """How often each question is asked."""
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
