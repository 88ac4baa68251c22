"""The fused output head beside torch's ``linear_cross_entropy`` and beside logits that are computed whole: forward and
backward, in bfloat16.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from graft.bench.training.comparison import RATIO, Figure
from graft.training.objective.head import head_cross_entropy

SHAPES: Mapping[str, tuple[int, int, int]] = {
    "4k": (2048, 256, 4096),
    "32k": (1024, 256, 32768),
    "128k": (128, 256, 131072),
}
"""By the vocabulary: asked tokens, width, entries."""

Head = Callable[[Tensor, Tensor, Tensor], Tensor]
"""States (N, D), weight (V, D) and labels (N) to the summed cross-entropy."""


def _ours(states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return head_cross_entropy(states, weight, None, labels, num_asked=len(labels))


def _torchs(states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    found: Tensor = functional.linear_cross_entropy(states, weight, labels, reduction="sum", options=options)
    return found


def _whole(states: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(functional.linear(states, weight).float(), labels, reduction="sum")


HEADS: Mapping[str, Head] = {"graft": _ours, "torch": _torchs, "whole": _whole}


def head_figures(*, num_pairs: int) -> dict[str, Figure]:
    """Times in turn in one process; of memory the peak of a process of its own above its inputs."""
    figures: dict[str, Figure] = {}
    for name, shape in SHAPES.items():
        seconds = _seconds(shape, num_pairs)
        peaks = {who: _peak_alone(who, shape) for who in HEADS}
        for who, runs in seconds.items():
            figures[f"head_{name}_{who}"] = Figure(
                value=1e3 * median(runs), unit="ms", runs=tuple(1e3 * one for one in runs)
            )
            figures[f"head_{name}_{who}_memory"] = Figure(value=peaks[who] / 1e6, unit="MB", runs=(peaks[who] / 1e6,))
        for peer in ("torch", "whole"):
            ratios = tuple(one / own for one, own in zip(seconds[peer], seconds["graft"], strict=True))
            figures[f"head_{name}_vs_{peer}"] = Figure(value=median(ratios), unit=RATIO, runs=ratios)
    return figures


def _seconds(shape: tuple[int, int, int], num_pairs: int) -> dict[str, list[float]]:
    inputs = _inputs(shape)
    found: dict[str, list[float]] = {who: [] for who in HEADS}
    for number in range(num_pairs + 1):
        for who in list(HEADS)[:: 1 if number % 2 else -1]:
            begin = time.perf_counter()
            _run(HEADS[who], *inputs)
            found[who].append(time.perf_counter() - begin)
    return {who: runs[1:] for who, runs in found.items()}  # the first one warms up


def _inputs(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    tokens, width, vocabulary = shape
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(tokens, width, generator=generator).bfloat16().requires_grad_()
    weight = (torch.randn(vocabulary, width, generator=generator) * width**-0.5).bfloat16().requires_grad_()
    return states, weight, torch.randint(vocabulary, (tokens,), generator=generator)


def _run(head: Head, states: Tensor, weight: Tensor, labels: Tensor) -> None:
    states.grad = weight.grad = None
    head(states, weight, labels).backward()


def _peak_alone(who: str, shape: tuple[int, int, int]) -> int:
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, who, shape).result()


def _peak(who: str, shape: tuple[int, int, int]) -> int:
    _run(HEADS[who], *_inputs((16, 32, 64)))  # the libraries' own
    inputs = _inputs(shape)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    _run(HEADS[who], *inputs)
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])
