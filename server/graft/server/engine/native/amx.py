"""Intel's matrix tiles (AMX) need Linux's leave, process by process: who uses them without it dies of SIGILL.

vLLM's attention on CPUs never asks; oneDNN does, so that the engine lived where a product of oneDNN came first.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Literal

from graft.server.engine.native.instruction_sets import processor_flags

_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA = 158, 0x1023, 18  # x86-64; Linux 5.16
_WITHOUT_AMX = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16")
_CEILING = "ONEDNN_MAX_CPU_ISA"

Leave = Literal["absent", "granted", "refused", "not wanted"]


def ask_for_tiles() -> Leave:
    """Ask Linux to let this process use AMX tiles. `not wanted` where oneDNN's own limit is set below them."""
    if platform.machine() != "x86_64" or "amx_tile" not in processor_flags():
        return "absent"
    if os.environ.get(_CEILING, "").upper() in _WITHOUT_AMX:
        return "not wanted"
    libc = ctypes.CDLL(None, use_errno=True)
    status = libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return "granted" if status == 0 else "refused"


def use_tiles_with_leave() -> Leave:
    """Ask, and without leave keep torch, oneDNN and vLLM in this process from using tiles."""
    leave = ask_for_tiles()
    if leave in ("refused", "not wanted"):
        import torch

        if not os.environ.get(_CEILING):
            os.environ[_CEILING] = "AVX512_CORE_BF16"
        torch.cpu._is_amx_tile_supported = lambda: False  # what vLLM asks before it chooses kernels
    return leave
