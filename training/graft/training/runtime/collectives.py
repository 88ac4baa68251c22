"""torch's exchanges of tensors in one piece, which torch 2.13 calls by other names than versions before it."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor

_GATHER: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_REDUCE: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


def all_gather(part: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The parts of all processes, of one size. Shape: (P, …)."""
    parts = part.new_empty(dist.get_world_size(group), *part.shape)
    _GATHER(parts.flatten(0, 1), part.contiguous(), group=group)
    return parts


def reduce_scatter(whole: Tensor, group: dist.ProcessGroup) -> Tensor:
    """This process's part, along the first axis, of the sum of what each has."""
    part = whole.new_empty(len(whole) // dist.get_world_size(group), *whole.shape[1:])
    _REDUCE(part, whole.contiguous(), group=group)
    return part
