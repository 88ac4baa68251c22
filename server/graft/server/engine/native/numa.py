"""libnuma.so.1 for vLLM's CPU library, which is linked against it, on systems that have none."""

from __future__ import annotations

import ctypes
from pathlib import Path

from graft.server.engine.native.libraries import PREBUILT

_NAME = "libnuma.so.1"


def stand_in() -> Path | None:
    """The folder with a libnuma that says "no NUMA here", for the loader's path; None where the system has its own.

    The loader reads that path when a process starts: this process, which imports vLLM, too, gets ours at once.
    """
    if _is_installed():
        return None
    ctypes.CDLL(str(PREBUILT / _NAME))
    return PREBUILT


def _is_installed() -> bool:
    try:
        ctypes.CDLL(_NAME)
    except OSError:
        return False
    return not _is_ours()  # one that is loaded is found by its name, wherever it came from


def _is_ours() -> bool:
    return str((PREBUILT / _NAME).resolve()) in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
