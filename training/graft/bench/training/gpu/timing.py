"""Seconds and bytes of what runs on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from graft.bench.training.gpu.teller import Teller
from graft.training.errors import first_line


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The median of several runs, and what they took of the device's memory above what was taken before."""

    seconds: float
    peak_bytes: int


def cost(run: Callable[[], object], device: torch.device, *, rounds: int = 5, warm: int = 2) -> Cost:
    """Of ``run``, waiting for the device each time. On CPUs memory is not counted, and is 0."""
    for _ in range(warm):
        run()
    is_cuda = device.type == "cuda"
    before = 0
    if is_cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        if is_cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated(device) - before if is_cuda else 0
    return Cost(seconds=median(seconds), peak_bytes=peak)


def told_cost(teller: Teller, name: str, run: Callable[[], object]) -> Cost | None:
    """The same, told; None where this card has no room for it, or this torch no such operation: that is told, too."""
    try:
        found = cost(run, teller.device)
    except (RuntimeError, TypeError, AttributeError) as error:  # torch says so by each of them
        teller.lacks(f"{name}: {type(error).__name__}: {first_line(error)}")
        return None
    teller.figure(f"{name}: time", 1e3 * found.seconds, "ms")
    teller.figure(f"{name}: memory above its inputs", found.peak_bytes / 1e6, "MB")
    return found
