"""Copies of a step's tensors in the host's memory, for a thread that stores them while the training changes the
originals. The same memory serves for every checkpoint; what lies on a GPU is copied to pinned memory, behind the step's
own work and without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from graft.training.runtime.pinned import pinned_room


class Staging:
    """Its copies hold until the next are made: what stores them must have ended then."""

    def __init__(self) -> None:
        self._rooms: dict[str, Tensor] = {}

    def copies(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Callable[[], None]]:
        """The copies, and what waits until they are whole."""
        self._rooms = {name: self._room(name, one) for name, one in tensors.items()}
        on_gpu = False
        for name, one in tensors.items():
            own = _local(one)
            on_gpu |= own.is_cuda
            _local(self._rooms[name]).copy_(own, non_blocking=own.is_cuda)
        if not on_gpu:
            return dict(self._rooms), lambda: None
        event = torch.cuda.Event()
        event.record()
        return dict(self._rooms), event.synchronize

    def _room(self, name: str, tensor: Tensor) -> Tensor:
        room = self._rooms.get(name)
        return room if room is not None and _fits(room, tensor) else _new(tensor)


def _fits(room: Tensor, tensor: Tensor) -> bool:
    if isinstance(room, DTensor) != isinstance(tensor, DTensor) or room.dtype != tensor.dtype:
        return False
    if isinstance(room, DTensor) and isinstance(tensor, DTensor) and room._spec != tensor._spec:
        return False
    return bool(_local(room).shape == _local(tensor).shape)


def _new(tensor: Tensor) -> Tensor:
    """Where a GPU's tensor is copied to is pinned, if it can be. A DTensor stays one of its mesh."""
    own = _local(tensor)
    room = pinned_room(own) if own.is_cuda else torch.empty_like(own, device="cpu")
    return DTensor(room, tensor._spec, requires_grad=False) if isinstance(tensor, DTensor) else room


def _local(tensor: Tensor) -> Tensor:
    plain = tensor.detach()
    return plain.to_local() if isinstance(plain, DTensor) else plain
