"""A process that ends with the one that started it, also with a killed one, which can tell it nothing."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""<linux/prctl.h>"""
_LIBC = ctypes.CDLL(None)
"""Opened before a fork: behind one, nothing can be that another thread is just opening."""


def end_with(parent: int) -> None:
    """Asks for SIGTERM when the thread that started this process has ended; ends at once where ``parent`` is gone
    already. Only Linux can be asked: elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
