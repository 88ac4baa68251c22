"""What processes use, read from /proc: resident memory, and time on the cores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from graft.bench.serving.processes import tree_of

_KIB_PER_MB = 1e6 / 1024


def resident_mb(pid: int) -> float:
    """Resident memory of a process and of all below it, in units of 10⁶ bytes."""
    return sum(_status(each, "VmRSS") for each in tree_of(pid))


def proportional_mb(pid: int) -> float:
    """Memory of a process and of all below it, in units of 10⁶ bytes: a page that n processes share counts 1/n each."""
    total = 0
    for each in tree_of(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / _KIB_PER_MB


def peak_mb(pid: int) -> float:
    """The largest resident memory since `forget_peak`, summed over the same processes."""
    return sum(_status(each, "VmHWM") for each in tree_of(pid))


def forget_peak(pid: int) -> None:
    """Let the peak begin again at what is resident now. Raises OSError where the kernel refuses."""
    for each in tree_of(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5", encoding="ascii")


def cpu_seconds(pid: int) -> float:
    """Time that a process and all below it spent on cores so far."""
    total = 0
    for each in tree_of(pid):
        with contextlib.suppress(OSError):
            # After the name in parentheses, user and system time are the 12th and 13th fields, in ticks.
            fields = Path(f"/proc/{each}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of (x, y) points; 0 where all x are the same."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _status(pid: int, key: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / _KIB_PER_MB
    return 0.0
