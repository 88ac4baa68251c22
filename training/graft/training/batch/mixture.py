"""Which rows an epoch reads, of one file or of several with weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from graft.training.batch.order import shuffled


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A file's weight is its share of each epoch's rows. Files without one are read whole, once an epoch, and have the
    rest; where all have one, the weights count in proportion, and an epoch reads as many rows as there are.

    A share that is less than a file's rows leaves some out, others in each epoch; one that is more repeats some. So in
    the long run each row of a file is read as often as the others.
    """

    sizes: tuple[int, ...]
    """Rows of each file; they are numbered through."""
    weights: tuple[float | None, ...]
    seed: int

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Rows of each file that an epoch reads."""
        weighted = sum(weight for weight in self.weights if weight is not None)
        whole = sum(size for size, weight in zip(self.sizes, self.weights, strict=True) if weight is None)
        all_rows = whole / (1 - weighted) if whole else sum(self.sizes)
        each = all_rows if whole else all_rows / (weighted or 1)
        return tuple(
            size if weight is None else max(1, round(weight * each))
            for size, weight in zip(self.sizes, self.weights, strict=True)
        )

    @property
    def are_alike(self) -> bool:
        """Whether every epoch reads the same rows, in another order."""
        return all(count % size == 0 for count, size in zip(self.counts, self.sizes, strict=True))

    @property
    def num_rows(self) -> int:
        """That an epoch reads."""
        return sum(self.counts)

    def order(self, epoch: int) -> Sequence[int]:
        """Numbers of the rows that an epoch reads, shuffled: a function of the epoch alone."""
        seed = f"{self.seed}/{epoch}"
        if self.counts == self.sizes:
            return shuffled(sum(self.sizes), seed)
        taken = [number for file in range(len(self.sizes)) for number in self._taken(file, epoch)]
        return [taken[at] for at in shuffled(len(taken), seed)]

    def _taken(self, file: int, epoch: int) -> Iterator[int]:
        """The next of an endless row of the file's permutations."""
        size, count = self.sizes[file], self.counts[file]
        first = sum(self.sizes[:file])
        start, end = epoch * count, (epoch + 1) * count
        while start < end:
            turn, at = divmod(start, size)
            piece = shuffled(size, f"{self.seed}/file {file}/{turn}")[at : at + end - start]
            yield from (first + number for number in piece)
            start += len(piece)
