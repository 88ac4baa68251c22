"""Where a run's batches come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol, TypeVar

from graft.training.batch.batch import AnyBatch

BatchT = TypeVar("BatchT", bound=AnyBatch, covariant=True)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which micro-batches of a step one of several processes takes: every ``num``-th from ``index`` on."""

    index: int = 0
    num: int = 1
    least: int = 1
    """Micro-batches that a process must have: a pipeline needs as many as it has stages."""
    multiple: int = 1
    """Of which their number is one."""

    def of(self, batches: Sequence[T]) -> Sequence[T]:
        return batches[self.index :: self.num]

    def alike(self, batches: Sequence[T]) -> Sequence[T | None]:
        """The same, but every process has as many: None is one that asks nothing, where there are too few. So what a
        step reads is no matter of how many processes read it.
        """
        each = ceil(max(ceil(len(batches) / self.num), self.least) / self.multiple) * self.multiple
        return self.of([*batches, *[None] * (each * self.num - len(batches))])


WHOLE = Share()


class Data(Protocol[BatchT]):
    """The micro-batches of each step: a function of the step alone, so that a resumed run sees what it would have seen,
    and several processes together see what one would.
    """

    def batches(self, step: int, share: Share = WHOLE) -> Sequence[BatchT]:
        """Those of one optimizer step that belong to a share of it."""
