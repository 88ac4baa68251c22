"""Sums, gathers and cuts between processes that split the matrices of a model, each with its way back.

Where a matrix is split, every process has all tokens and a part of the channels; between, where norms and residuals are
added, every process has all channels of a part of the tokens (sequence parallelism: Korthikanti et al. 2022,
arXiv:2205.05198, §4.2.2). Legend: B rows, L tokens, P tokens of a part, D width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graft.training.runtime.collectives import all_gather, reduce_scatter


def gathered(part: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """All processes' parts, of one size, side by side along ``dim``."""
    return torch.cat(all_gather(part, group).unbind(), dim=dim)


def cut(whole: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """This process's part of what all have."""
    return whole.chunk(dist.get_world_size(group), dim)[dist.get_rank(group)].contiguous()


def summed_part(whole: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """This process's part of the sum of what each has."""
    return reduce_scatter(torch.cat(whole.chunk(dist.get_world_size(group), dim)), group)


def summed(whole: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = whole.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


class _Exchange(torch.autograd.Function):
    """One of the exchanges above, and on the way back another."""

    @staticmethod
    def forward(context: Any, x: Tensor, there: Any, back: Any, dim: int, group: dist.ProcessGroup) -> Tensor:
        context.how = back, dim, group
        found: Tensor = there(x, dim, group)
        return found

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        back, dim, group = context.how
        return back(gradients[0], dim, group), None, None, None, None


def join(part: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """Gathers what all go on with alike: each gradient is whole already."""
    whole: Tensor = _Exchange.apply(part, gathered, cut, dim, group)
    return whole


def divide(whole: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """Takes a part of what all have alike: the gradients of the parts make the whole one."""
    part: Tensor = _Exchange.apply(whole, cut, gathered, dim, group)
    return part


class _Sum(torch.autograd.Function):
    """The sum of what each has, which all go on with alike."""

    @staticmethod
    def forward(context: Any, whole: Tensor, group: dist.ProcessGroup) -> Tensor:
        return summed(whole, group)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def add_up(whole: Tensor, group: dist.ProcessGroup) -> Tensor:
    total: Tensor = _Sum.apply(whole, group)
    return total


class Tokens:
    """The tokens of a row, dealt to the processes of a group in its order. Rows are filled up with zeros, of which
    nothing is read, to a multiple of the group's size.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.num, self.rank = group, dist.get_world_size(group), dist.get_rank(group)
        self.length = 0
        """Of the rows that are computed now."""

    def part(self, x_BLD: Tensor) -> Tensor:
        """This process's tokens of what all have. Shape: (B, P, D)."""
        return divide(self._filled(x_BLD), 1, self.group)

    def whole(self, x_BPD: Tensor) -> Tensor:
        """All tokens, for what each process computes a part of: gradients are summed. Shape: (B, L, D)."""
        found_BLD: Tensor = _Exchange.apply(x_BPD, gathered, summed_part, 1, self.group)
        return found_BLD[:, : self.length]

    def summed(self, x_BLD: Tensor) -> Tensor:
        """This process's tokens of the sum of what each has. Shape: (B, P, D)."""
        found_BPD: Tensor = _Exchange.apply(self._filled(x_BLD), summed_part, gathered, 1, self.group)
        return found_BPD

    def _filled(self, x_BLD: Tensor) -> Tensor:
        missing = -x_BLD.shape[1] % self.num
        return nn.functional.pad(x_BLD, (0, 0, 0, missing)) if missing else x_BLD
