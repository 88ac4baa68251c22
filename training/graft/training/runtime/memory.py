"""The memory of this process."""

from __future__ import annotations

import ctypes
import gc

import psutil
import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Of glibc's ``mallopt(3)``."""


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
