"""The processes of a training: one, or those that a launcher such as ``torchrun`` has started."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Alone, Layout
from graft.training.parallel.mesh import Mesh


@dataclass(frozen=True, kw_only=True)
class Processes:
    """How many there are, and where this one computes."""

    num: int
    device: str
    """``cpu`` or ``cuda``."""
    is_restarted: bool = False
    """Whether the launcher started them anew after one was lost."""

    @property
    def is_first(self) -> bool:
        return self.num == 1 or dist.get_rank() == 0

    def layout(self, mesh: Mesh) -> Layout:
        """All of them, arranged. Every process calls this."""
        return Alone(self.device) if self.num == 1 else Distributed(mesh, device=self.device)


def device_kind() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Meets the others that the launcher's environment speaks of (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` …).

    Where a process group exists already, as in a Ray Train worker, it is taken as it is.
    """
    num, device = int(os.environ.get("WORLD_SIZE", "1")), device_kind()
    if dist.is_initialized():
        yield Processes(num=dist.get_world_size(), device=device)
        return
    if num == 1:
        yield Processes(num=1, device=device)
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    try:
        yield Processes(num=num, device=device, is_restarted=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0")
    finally:
        dist.destroy_process_group()
