"""One adapter on its way from a mapped file to a GPU: one copy into pinned memory, and one over the bus."""

from __future__ import annotations

from collections.abc import Mapping

import torch


class Staging:
    """Memory that every adapter passes through: pinned on the host, and as much on the device.

    It is reserved once, where the largest adapter is known: what a load would have to pin would hold up the engine's
    loop, and what it would take of a GPU is the KV cache's by then. Else it grows as needed.

    Pinning a fresh page costs more than filling it, and each copy over the bus has a price of its own: an adapter has
    hundreds of tensors. Copies are asynchronous, in the order of the current stream.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._host = torch.empty(0, dtype=torch.uint8)
        self._there = torch.empty(0, dtype=torch.uint8, device=device)
        self._left: torch.Event | None = None

    def moved(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The tensors on the device, until the next call."""
        places, end = {}, 0
        for name, tensor in tensors.items():
            begin = -(-end // tensor.dtype.itemsize) * tensor.dtype.itemsize
            end = begin + tensor.numel() * tensor.dtype.itemsize
            places[name] = (begin, end)
        if self._left is not None:
            self._left.synchronize()  # what was sent before has left the pinned memory
        self.reserve(end)
        for name, (begin, stop) in places.items():
            self._host[begin:stop].view(tensors[name].dtype).view(tensors[name].shape).copy_(tensors[name])
        self._there[:end].copy_(self._host[:end], non_blocking=True)
        if self._device.type == "cuda":
            self._left = torch.cuda.Event()
            self._left.record()
        return {
            name: self._there[begin:stop].view(tensors[name].dtype).view(tensors[name].shape)
            for name, (begin, stop) in places.items()
        }

    def reserve(self, num_bytes: int) -> None:
        """Have room for an adapter of `num_bytes` bytes."""
        if len(self._host) < num_bytes:
            self._host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
            self._there = torch.empty(num_bytes, dtype=torch.uint8, device=self._device)
