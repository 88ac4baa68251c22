"""The processes of a training, one or those that a launcher such as ``torchrun`` has started, and what they execute."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import torch
import torch.distributed as dist

from graft.training.parallel.distributed import Distributed
from graft.training.parallel.layout import Alone, Layout
from graft.training.parallel.mesh import Mesh
from graft.training.runtime.device import check_own_gpus, device_kind, gpu_of_process, taking_device
from graft.training.runtime.parent import end_with

Made = TypeVar("Made")

_WAIT, _MADE, _RAISED = "wait", "made", "raised"
_AGAIN_SECONDS = 20.0

LAUNCH = "launch"
"""File in a training's folder."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """How many there are, and where this one computes."""

    num: int
    device: str
    """``cpu`` or ``cuda``."""
    launch: str | None = None
    """Names what started them, the same after a restart by it; None without a launcher."""

    @property
    def is_first(self) -> bool:
        return self.num == 1 or dist.get_rank() == 0

    def continues(self, work: Path) -> bool:
        """Whether this launch began the training in a folder already, and lost a worker since. All processes agree."""
        marker = work / LAUNCH
        begun = self.launch is not None and marker.exists() and marker.read_text(encoding="utf-8") == self.launch
        return self.agreed(begun)

    def claim(self, work: Path) -> None:
        """Leaves this launch's name in a folder that the first process has made."""
        if self.is_first and self.launch is not None:
            (work / LAUNCH).write_text(self.launch, encoding="utf-8")

    def agreed(self, value: bool) -> bool:
        """What the first process says."""
        if self.num == 1:
            return value
        said = [value]
        dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        return said[0]

    def by_first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, for all, however long it takes; what it raises is raised by all. Every process
        calls this; what is made is pickled on its way. Ctrl-C ends it at once, whatever is being made: a file may stay
        half written beside the one that it was to replace.
        """
        if self.num == 1:
            return make()
        outcome: tuple[str, Any] = (_WAIT, None)
        work = _begun(make, self.device) if self.is_first else None
        while outcome[0] == _WAIT:
            # Said again and again: a meeting that waits longer than the process group's timeout would fail.
            said = [outcome]
            if work is not None and not wait([work], timeout=_AGAIN_SECONDS).not_done:
                said = [_passable(*work.result())]
            dist.broadcast_object_list(said, src=0, device=torch.device("cpu"))
            outcome = said[0]
        kind, value = outcome if work is None else work.result()
        if kind == _RAISED:
            raise value
        made: Made = value
        return made

    def layout(self, mesh: Mesh, *, offloads: bool = False, sums_each_batch: bool = False) -> Layout:
        """All of them, arranged; see ``Distributed`` for the options. Every process calls this."""
        if self.num == 1:
            return Alone(self.device)
        return Distributed(mesh, device=self.device, offloads=offloads, sums_each_batch=sums_each_batch)


class Job(Protocol):
    """What every process of a training executes. It can be pickled."""

    @property
    def name(self) -> str: ...

    @property
    def work(self) -> Path:
        """The folder of its checkpoints, which all processes see."""

    def absolute(self) -> Self:
        """The same for a process whose current folder is another."""

    def check_work(self, *, resume: bool) -> None:
        """Makes sure that checkpoints in ``work`` are this training's to go on from. Raises ``CheckpointError``."""

    def execute(self, processes: Processes, *, resume: bool) -> Any: ...


@contextlib.contextmanager
def joined() -> Iterator[Processes]:
    """Meets the others that the launcher's environment speaks of (``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` …).

    Where a process group exists already, as in a Ray Train worker, it is taken as it is.
    """
    num, device = int(os.environ.get("WORLD_SIZE", "1")), device_kind()
    if dist.is_initialized():  # Ray decides by itself when to resume
        yield Processes(num=dist.get_world_size(), device=device)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a killed torchrun would leave its ranks training
        end_with(os.getppid())
    if num == 1:
        yield Processes(num=1, device=device, launch=_launch())
        return
    if device == "cuda":
        torch.cuda.set_device(gpu_of_process(torch.cuda.device_count()))
    # torchrun keeps one store for all attempts, in which a restarted worker would find the addresses of dead ones.
    store, rank, num = next(dist.rendezvous("env://"))
    attempt = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=num)
    try:
        if device == "cuda":
            check_own_gpus(_gathered(str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid), num))
        yield Processes(num=num, device=device, launch=_launch())
    finally:
        dist.destroy_process_group()


def _gathered(value: str, num: int) -> list[str]:
    """What each process says, told among the hosts."""
    said: list[Any] = [None] * num
    dist.all_gather_object(said, value)
    return said


def _launch() -> str | None:
    """``torchrun``'s own name for the run; where it was given none, its process on this machine."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"agent-{os.getppid()}" if name == "none" else name


def _begun(make: Callable[[], Any], device: str) -> Future[tuple[str, Any]]:
    """In a thread that nobody waits for when the process ends, as an executor's would be."""
    taken, begun = taking_device(device), Future[tuple[str, Any]]()

    def work() -> None:
        try:
            taken()
            begun.set_result(_outcome(make))
        except BaseException as error:
            begun.set_exception(error)

    threading.Thread(target=work, name="first", daemon=True).start()
    return begun


def _outcome(make: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return _MADE, make()
    except Exception as error:
        return _RAISED, error


def _passable(kind: str, value: Any) -> tuple[str, Any]:
    """An outcome, or its error's words where pickle cannot carry it to the others: they would wait for it in vain."""
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        if kind != _RAISED:
            raise
        return kind, RuntimeError(f"{type(value).__name__}: {value}")
    return kind, value
