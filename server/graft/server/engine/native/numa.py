"""libnuma.so.1 for vLLM's CPU library, which is linked against it, on systems that have none."""

from __future__ import annotations

import ctypes
from pathlib import Path

from graft.server.engine.native.libraries import PREBUILT

_NAME = "libnuma.so.1"


def is_installed() -> bool:
    """Whether the system has a libnuma of its own."""
    try:
        ctypes.CDLL(_NAME)
    except OSError:
        return False
    return True


def stand_in() -> Path | None:
    """The folder with a libnuma that says "no NUMA here", for the loader's path; None where the system has its own."""
    return None if is_installed() else PREBUILT
