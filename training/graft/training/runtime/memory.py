"""The memory of this process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterator

import psutil
import torch

from graft.training.errors import ConfigurationError

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Of glibc's ``mallopt(3)``."""


_LACKS = ("can't allocate memory", "not enough memory")
"""In torch's error on the host, which has no type of its own."""


@contextlib.contextmanager
def holding(what: Callable[[], str], *, remedy: str) -> Iterator[None]:
    """Raises ``ConfigurationError`` that names ``what`` is made inside, where memory does not suffice for it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_known and not any(words in str(error) for words in _LACKS):
            raise
        room = f"this machine has {psutil.virtual_memory().total / 1e9:,.1f} GB"
        if torch.cuda.is_available():
            room += f", its GPU {torch.cuda.mem_get_info()[1] / 1e9:,.1f} GB"
        raise ConfigurationError(f"memory does not suffice for {what()}; {room}: {remedy}.") from error


def memory_bytes() -> int:
    """What the process takes at present; on a GPU the most that its tensors took there."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return int(psutil.Process().memory_info().rss)


def free_memory() -> None:
    """Gives back what is referred to by itself alone, as modules with hooks are, and on a GPU what torch keeps."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def keep_freed_memory() -> bool:
    """Has tensors of up to 32 MB use the memory of those before them again: glibc gives large pieces back to the system
    at once, and in the next step the system clears every page anew. False where there is no glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    values = {
        _MMAP_THRESHOLD: 32 << 20,  # its largest
        _TRIM_THRESHOLD: 2**31 - 1,
        _TOP_PAD: 64 << 20,
    }
    taken = [mallopt(name, value) for name, value in values.items()]
    return all(taken)
