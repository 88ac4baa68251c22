"""Whose tokens stand where in a row of several adapters' tokens, and which adapters' products are one: those of one
rank with as many tokens each, one behind the other (as in Punica's SGMV: Chen et al. 2023, arXiv:2310.18547).

Legend: T tokens of all adapters, t of one, G adapters of a stack, K inputs, N outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The tokens of an adapter, from ``start`` on."""

    start: int
    num_tokens: int
    rank: int
    scale: float
    dropped_TK: Tensor | None = None
    """What its inputs are multiplied by: 0 where they are left out. Shape: (t, K)."""

    @property
    def end(self) -> int:
        return self.start + self.num_tokens


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Adapters whose products are one: from ``first`` on among the segments."""

    first: int
    segments: Sequence[Segment]

    @property
    def tokens(self) -> slice:
        return slice(self.segments[0].start, self.segments[-1].end)

    @property
    def own(self) -> slice:
        return slice(self.first, self.first + len(self.segments))

    def split(self, all_TD: Tensor) -> Tensor:
        """This stack's tokens. Shape: (G, t, D)."""
        return all_TD[self.tokens].unflatten(0, (len(self.segments), -1))

    def scaled_(self, some_GtR: Tensor) -> Tensor:
        """Each adapter's part times its scale, in place."""
        scales = [one.scale for one in self.segments]
        if len(set(scales)) == 1:
            return some_GtR.mul_(scales[0])
        for part_tR, scale in zip(some_GtR, scales, strict=True):
            part_tR.mul_(scale)
        return some_GtR

    @property
    def has_dropout(self) -> bool:
        return any(one.dropped_TK is not None for one in self.segments)

    def dropped(self, some_GtK: Tensor) -> Tensor:
        """With what dropout leaves of it, of those adapters that have one."""
        if not self.has_dropout:
            return some_GtK
        masks = [one.dropped_TK for one in self.segments]
        parts = [part if mask is None else part * mask for part, mask in zip(some_GtK, masks, strict=True)]
        return torch.stack(parts)


def stacks(segments: Sequence[Segment]) -> list[Stack]:
    """Segments in the order of their tokens, as few products as that order allows."""
    found: list[Stack] = []
    for number, one in enumerate(segments):
        last = found[-1].segments[-1] if found else None
        if last is not None and (last.rank, last.num_tokens, last.end) == (one.rank, one.num_tokens, one.start):
            found[-1] = Stack(first=found[-1].first, segments=[*found[-1].segments, one])
        else:
            found.append(Stack(first=number, segments=[one]))
    return found
