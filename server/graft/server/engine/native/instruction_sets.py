"""The instruction sets that our kernels are built for, and which of them this processor has."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """One for which every kernel is built. `flags` are Linux's names in /proc/cpuinfo, `target` is the compiler's."""

    name: str
    flags: frozenset[str]
    target: str


_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})  # x86-64-v3 of the psABI
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

BEST_FIRST = (
    InstructionSet(name="avx512-bf16", flags=_V4 | {"avx512_bf16"}, target="x86_64_v4+avx512bf16"),
    InstructionSet(name="avx512", flags=_V4, target="x86_64_v4"),
    InstructionSet(name="avx2", flags=_V3, target="x86_64_v3"),
)
NAMES = tuple(each.name for each in BEST_FIRST)


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What Linux says that this processor has; nothing on machines other than x86-64."""
    if platform.machine() != "x86_64":
        return frozenset()
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def supported(flags: frozenset[str] | None = None) -> tuple[InstructionSet, ...]:
    """Those of ours that run here, best first."""
    present = processor_flags() if flags is None else flags
    return tuple(each for each in BEST_FIRST if each.flags <= present)
