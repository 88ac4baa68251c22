"""What a run optimises."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from graft.training.batch.batch import AnyBatch
from graft.training.batch.packing import IGNORED

BatchT = TypeVar("BatchT", bound=AnyBatch, contravariant=True)


class Objective(Protocol[BatchT]):
    """What is learned from a batch, and what is told of it.

    The loss is the weighted sum of the terms' means. Each mean is taken once over everything that a step sees, all
    micro-batches of all processes: a term is a sum here, and its count is known beforehand. What has no weight is a
    metric, whose mean is told and not learned.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """The factor of each term's mean."""

    def counts(self, batch: BatchT) -> Mapping[str, int]:
        """How many things each term and each metric sums over in the batch."""

    def sums(self, model: nn.Module, batch: BatchT) -> Mapping[str, Tensor]:
        """Each term, summed over the batch: scalars in nats, with a gradient. So each metric, in a unit of its own."""


def places(labels: Tensor, num: int | None = None) -> Tensor:
    """Where the flattened labels ask for something. Shape: (N,), of which ``num`` is the size where it was counted
    before: a GPU that is to find it out must be waited for.
    """
    asked = labels.flatten() != IGNORED
    return (asked.nonzero() if num is None else torch.nonzero_static(asked, size=num))[:, 0]


def cross_entropy(logits: Tensor, labels: Tensor, *, z: float = 0.0, smoothing: float = 0.0) -> Tensor:
    """−log p of each label, summed, in float32, and ``z`` times log² Z; ``smoothing`` is a part of each label that is
    spread evenly over the vocabulary. Shapes: (…, V) and (…).
    """
    total = functional.cross_entropy(
        logits.flatten(0, -2).float(),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )
    if not z:
        return total
    log_z = logits.float().logsumexp(-1)
    return total + z * log_z.square().where(labels != IGNORED, 0.0).sum()


def rows_of(sequences: Sequence[Sequence[int]], *, length: int, fill: int) -> Tensor:
    """Sequences as one tensor (B, L), each filled up at its end. Raises ``ValueError`` for one that is longer."""
    rows = torch.full((len(sequences), length), fill)
    for row, ids in enumerate(sequences):
        if len(ids) > length:
            raise ValueError(f"a row has {len(ids)} tokens; {length} is the limit")
        rows[row, : len(ids)] = torch.tensor(ids, dtype=torch.long)
    return rows
