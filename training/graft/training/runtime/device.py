"""Where this process computes."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from graft.training.errors import ConfigurationError


def device_kind() -> str:
    """``cuda`` where torch sees a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def own_device(kind: str) -> torch.device:
    """Of a kind the one that is this process's own: of several GPUs that which its launcher gave it."""
    return torch.device(kind, torch.cuda.current_device()) if kind == "cuda" else torch.device(kind)


def taking_device(kind: str) -> Callable[[], None]:
    """For another thread, which would compute on the first device: has it take this one's."""
    return functools.partial(torch.cuda.set_device, torch.cuda.current_device()) if kind == "cuda" else lambda: None


def gpu_of_process(num_visible: int) -> int:
    """The index of this process's GPU among those that it sees: the only one, as SLURM, Ray and Kubernetes show it, or
    that of its place on the machine (``LOCAL_RANK``).

    Raises ``ConfigurationError`` where that place has none.
    """
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if num_visible > 1 and place >= num_visible:
        raise ConfigurationError(
            f"this process is number {place} of its machine (LOCAL_RANK, from 0) and sees {num_visible} GPUs "
            f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')}), so that it is not clear which is "
            f"its own: start {num_visible} processes on each machine, or let each see one GPU."
        )
    return place if num_visible > 1 else 0


def check_own_gpus(gpus: Sequence[str]) -> None:
    """Of each process its GPU's identity. Raises ``ConfigurationError`` where two have the same."""
    ranks: dict[str, list[int]] = defaultdict(list)
    for rank, gpu in enumerate(gpus):
        ranks[gpu].append(rank)
    if shared := {gpu: found for gpu, found in ranks.items() if len(found) > 1}:
        gpu, found = next(iter(shared.items()))
        told = " and ".join(map(str, found))
        raise ConfigurationError(
            f"processes {told} have the same GPU ({gpu}), and each needs its own: start as many processes on each "
            "machine as it has GPUs, and set LOCAL_RANK, or CUDA_VISIBLE_DEVICES to another one for each."
        )
