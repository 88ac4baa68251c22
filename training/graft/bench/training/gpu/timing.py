"""Seconds and bytes of what runs on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch


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
