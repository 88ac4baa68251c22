"""What processes use: memory, and time on the cores."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from graft.bench.serving.processes import tree_of

_MB = 1e6


def resident_mb(pid: int) -> float:
    """Resident memory of a process and of all below it, in units of 10⁶ bytes."""
    return _sum(pid, lambda one: one.memory_info().rss) / _MB


def proportional_mb(pid: int) -> float:
    """Memory of a process and of all below it, in units of 10⁶ bytes: a page that n processes share counts 1/n each."""
    return _sum(pid, lambda one: one.memory_full_info().pss) / _MB


def peak_mb(pid: int) -> float:
    """The largest resident memory since `forget_peak`, summed over the same processes."""
    return _sum(pid, _peak_bytes) / _MB


def forget_peak(pid: int) -> None:
    """Let the peak begin again at what is resident now. Raises OSError where the kernel refuses."""
    for each in tree_of(pid):
        Path(f"/proc/{each.pid}/clear_refs").write_text("5", encoding="ascii")


def cpu_seconds(pid: int) -> float:
    """Time that a process and all below it spent on cores so far."""
    return _sum(pid, lambda one: sum(one.cpu_times()[:2]))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Least-squares slope of (x, y) points; 0 where all x are the same."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _sum(pid: int, figure: Callable[[psutil.Process], float]) -> float:
    """Over the process and all below it that have not ended."""
    total = 0.0
    for each in tree_of(pid):
        with contextlib.suppress(psutil.Error, OSError):
            total += figure(each)
    return total


def _peak_bytes(process: psutil.Process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
