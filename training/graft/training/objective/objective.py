"""What a run optimises."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from graft.training.corpus.packing import Batch


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A summed loss. Sums of several batches add up; dividing by the tokens once gives the mean that is minimised."""

    total: Tensor
    """Scalar, in nats, with a gradient."""
    num_tokens: int
    """Supervised tokens that ``total`` sums over."""


class Objective(Protocol):
    """How a batch is made and what its loss is."""

    def batches(self, step: int) -> list[Batch]:
        """The micro-batches of one optimizer step. A function of the step alone, so that a resumed run sees what it
        would have seen.
        """
        ...

    def loss(self, model: PreTrainedModel, batch: Batch) -> Loss:
        """The loss of one micro-batch."""
        ...
