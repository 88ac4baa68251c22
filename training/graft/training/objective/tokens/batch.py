"""Texts of which every position foretells a token that is said beside it. Legend: N positions of all texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from graft.training.batch.packing import IGNORED, PackedBatch, padded


@dataclass(frozen=True, kw_only=True)
class Datum:
    """A text, what each of its positions is to foretell, and what is given of that."""

    input_ids: Sequence[int]
    target_ids: Sequence[int]
    """As many: most often the text's own, one place further."""
    given: Mapping[str, Sequence[float]]
    """By the names of the loss; as many values each."""


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """A text in each line, so that positions follow one another as the texts do."""

    packed: PackedBatch
    given: Mapping[str, Tensor]
    """Shapes: (N,)."""
    lengths: tuple[int, ...]
    """Positions of each text."""

    @classmethod
    def of(cls, data: Sequence[Datum], names: Sequence[str], *, pad_id: int) -> Self:
        """``names``: of what is given."""
        lengths = tuple(len(one.input_ids) for one in data)
        shape = (len(data), padded(max(lengths)))
        ids_BL, labels_BL = torch.full(shape, pad_id), torch.full(shape, IGNORED)
        positions_BL, document_BL = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        for row, (one, length) in enumerate(zip(data, lengths, strict=True)):
            ids_BL[row, :length] = torch.tensor(one.input_ids, dtype=torch.long)
            labels_BL[row, :length] = torch.tensor(one.target_ids, dtype=torch.long)
            positions_BL[row, :length] = torch.arange(length)
            document_BL[row, :length] = 1
        return cls(
            packed=PackedBatch(
                input_ids_BL=ids_BL, labels_BL=labels_BL, position_ids_BL=positions_BL, document_BL=document_BL
            ),
            given={
                name: torch.cat([torch.tensor(one.given[name], dtype=torch.float32) for one in data]) for name in names
            },
            lengths=lengths,
        )

    @property
    def num_tokens(self) -> int:
        """N."""
        return sum(self.lengths)

    def silent(self) -> Self:
        """The same of which nothing is asked."""
        return type(self)(
            packed=self.packed.silent(), given={name: one[:0] for name, one in self.given.items()}, lengths=()
        )

    def to(self, device: str) -> Self:
        return self.each(lambda one: one.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with tensors that ``change`` has copied."""
        given = {name: change(one) for name, one in self.given.items()}
        return type(self)(packed=self.packed.each(change), given=given, lengths=self.lengths)


def micro_batches(sizes: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Numbers of texts of these sizes, of which each batch has at most so many tokens, padding counted, or one text:
    the longest first, so that those of like length stand together.
    """
    found: list[list[int]] = []
    length = 0
    for number in sorted(range(len(sizes)), key=lambda one: -sizes[one]):
        if not found or length * (len(found[-1]) + 1) > tokens:
            found.append([])
            length = padded(sizes[number])
        found[-1].append(number)
    return found
