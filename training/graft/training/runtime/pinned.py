"""Host memory that a GPU copies from and to by itself, while it computes. Where the system gives no more of it,
ordinary memory serves: the same numbers, by copies that are waited for.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


def pinned_room(tensor: Tensor) -> Tensor:
    """An empty tensor of the host's, like one of a GPU's."""
    try:
        return torch.empty_like(tensor, device="cpu", pin_memory=True)
    except RuntimeError as error:
        say_unpinned()
        _log.debug("a pinned tensor of %d bytes: %s", tensor.nbytes, error)
        return torch.empty_like(tensor, device="cpu")


def pinned_copy(tensor: Tensor) -> Tensor:
    """Of a tensor of the host's; the tensor itself where there is no room for one."""
    try:
        return tensor.pin_memory()
    except RuntimeError as error:
        say_unpinned()
        _log.debug("a pinned copy of %d bytes: %s", tensor.nbytes, error)
        return tensor


@functools.cache
def say_unpinned() -> None:
    """Once for a process."""
    _log.warning(
        "the system gives no more pinned memory: batches and checkpoints are copied through ordinary memory, which the "
        "training waits for. Look at `ulimit -l` and at the container's memory limit"
    )
