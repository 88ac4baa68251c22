"""A model that is split and sharded before it has numbers gets them: in each process its own parts, one parameter after
the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.training.model.casting import cast_buffers
from graft.training.model.deferred import Part, give
from graft.training.parallel.buckets import like, local

_ORDER = ("tp", "dp_shard")
"""In which axes cut: FSDP shards what tensor parallelism has left."""


def fill(
    model: nn.Module,
    read: Callable[[str, Part], Tensor],
    *,
    device: str,
    dtype: torch.dtype | None,
    parameters_on: str | None = None,
) -> None:
    """Reads every parameter that is on ``meta`` and moves the buffers, as ``cast`` would; without ``dtype`` each keeps
    its own. Parameters go to another device where that is said.
    """
    cast_buffers(model, dtype, device)

    def own(name: str, parameter: nn.Parameter) -> Tensor:
        part = part_of(parameter)
        found = read(name, part).to(parameters_on or device, dtype)
        if found.untyped_storage().nbytes() > found.nbytes:  # else the whole would stay for the part's sake
            found = found.clone(memory_format=torch.contiguous_format)
        assert found.shape == local(parameter).shape, (name, part, found.shape, local(parameter).shape)
        return like(parameter, found)

    give(model, own)


def part_of(parameter: Tensor) -> Part:
    """Where in the whole parameter the part of this process lies. Along each axis all but the last have the same
    size, as ``torch.chunk`` cuts.
    """
    bounds = [(0, size) for size in parameter.shape]
    if isinstance(parameter, DTensor):
        mesh = parameter.device_mesh
        axes = dict(zip(mesh.mesh_dim_names or (), parameter.placements, strict=True))
        for axis in _ORDER:
            dim: int | None = getattr(axes.get(axis), "dim", None)
            if dim is None:
                continue
            first, last = bounds[dim]
            size = -(-(last - first) // mesh[axis].size())
            start = min(first + size * mesh[axis].get_local_rank(), last)
            bounds[dim] = start, min(start + size, last)
    return tuple(slice(*one) for one in bounds)
