"""Bytes of all tensors that live, counted at every operation: what a device would have had to hold."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Storages(TorchDispatchMode):
    """Of what was made since, and of what is named at the start. Views share their storage and count once."""

    def __init__(self, already: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()
        self.peak = 0
        for tensor in already:
            self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                self._add(one)
        self.peak = max(self.peak, self.now)
        return made

    @property
    def now(self) -> int:
        return sum(storage.nbytes() for storage in self._live)

    def _add(self, tensor: Tensor) -> None:
        tensor = tensor._local_tensor if isinstance(tensor, DTensor) else tensor
        if tensor.device.type != "meta":
            self._live.add(tensor.untyped_storage())
