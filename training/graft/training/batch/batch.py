"""What a step reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def num_labels(self) -> Mapping[str, int]:
        """How often each question is asked."""
        return {name: int((labels != IGNORED).sum()) for name, labels in self.labels.items()}

    def silent(self) -> "Batch":
        """The same, of which nothing is asked: it changes nothing."""
        labels = {name: torch.full_like(one, IGNORED) for name, one in self.labels.items()}
        return Batch(inputs=self.inputs, labels=labels)

    def to(self, device: str) -> "Batch":
        """The same on another device."""
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same with tensors that ``change`` has copied. What is counted is counted here and goes with it: on a GPU
        each count would wait for all that the GPU has to do.
        """
        inputs = {name: change(tensor) for name, tensor in self.inputs.items()}
        made = Batch(inputs=inputs, labels={name: change(tensor) for name, tensor in self.labels.items()})
        made.__dict__.update(num_labels=self.num_labels, num_tokens=self.num_tokens)
        return made

    @cached_property
    def num_tokens(self) -> int:
        """Tokens that are read, padding left out."""
        ids = self.inputs["input_ids"]
        mask = self.inputs.get("attention_mask")
        return int(mask.sum()) if mask is not None and mask.shape == ids.shape else ids.numel()
