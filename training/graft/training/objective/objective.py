"""What a run optimises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.training.batch.packing import IGNORED

Sentences = Sequence[Sequence[int]]
"""A document: the token ids of each of its sentences. One that nobody split is one sentence."""


class Counted(Protocol):
    """A batch that knows how many things each term of its loss sums over, before the loss is computed."""

    @property
    def counts(self) -> Mapping[str, int]: ...

    @property
    def num_tokens(self) -> int:
        """Tokens that are read, padding left out."""
        ...


BatchT = TypeVar("BatchT", bound=Counted, contravariant=True)


class Objective(Protocol[BatchT]):
    """What is learned from a batch.

    The loss is the weighted sum of the terms' means. Each mean is taken once over everything that a step sees, all
    micro-batches of all processes: a term is a sum here, and its count is known beforehand.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """The factor of each term's mean."""
        ...

    def sums(self, model: nn.Module, batch: BatchT) -> Mapping[str, Tensor]:
        """Each term, summed over the batch: scalars in nats, with a gradient."""
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


def cross_entropy(logits: Tensor, labels: Tensor, *, z: float = 0.0) -> Tensor:
    """−log p of each label, summed, in float32, and ``z`` times log² Z. Shapes: (…, V) and (…)."""
    total = functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total + z * logits[labels != IGNORED].float().logsumexp(-1).square().sum() if z else total


def rows_of(sequences: Sequence[Sequence[int]], *, length: int, fill: int) -> Tensor:
    """Sequences as one tensor (B, L), each filled up at its end. Raises ``ValueError`` for one that is longer."""
    rows = torch.full((len(sequences), length), fill)
    for row, ids in enumerate(sequences):
        if len(ids) > length:
            raise ValueError(f"a row has {len(ids)} tokens; {length} is the limit")
        rows[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return rows


def flat(document: Sentences) -> list[int]:
    """All tokens of a document."""
    return [one for sentence in document for one in sentence]
