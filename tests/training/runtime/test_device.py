"""Which GPU is a process's own: as torchrun says, or as SLURM, Ray and Kubernetes show it."""

from __future__ import annotations

import re
import threading
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
import torch.distributed as dist

from graft.training.errors import ConfigurationError
from graft.training.launch import processes
from graft.training.runtime.device import check_own_gpus, gpu_of_process, taking_device


@pytest.mark.parametrize(
    ("place", "num_visible", "expected"),
    [("0", 8, 0), ("5", 8, 5), ("5", 1, 0), (None, 1, 0), (None, 8, 0)],
    ids=["first", "sixth of eight", "sixth, which sees its own alone", "no launcher", "one process on a machine"],
)
def test_a_process_takes_its_own(
    monkeypatch: pytest.MonkeyPatch, place: str | None, num_visible: int, expected: int
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if place is not None:
        monkeypatch.setenv("LOCAL_RANK", place)
    taken: list[int] = []

    def stop(url: str) -> NoReturn:
        raise InterruptedError

    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setattr(processes, "device_kind", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_visible)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(dist, "rendezvous", stop)
    with pytest.raises(InterruptedError), processes.joined():
        pass
    assert taken == [expected]


def test_a_place_behind_the_last_of_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with pytest.raises(ConfigurationError, match=re.escape("number 4 of its machine")) as refused:
        gpu_of_process(4)
    assert "sees 4 GPUs (CUDA_VISIBLE_DEVICES=0,1,2,3)" in str(refused.value)


def test_two_processes_on_one_gpu_are_refused() -> None:
    check_own_gpus(["a", "b", "c"])
    with pytest.raises(ConfigurationError, match=re.escape("processes 1 and 3 have the same GPU (b)")):
        check_own_gpus(["a", "b", "c", "b"])


def test_processes_that_meet_on_one_gpu_part_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before NCCL is asked for anything."""
    ended: list[bool] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "device_kind", lambda: "cuda")
    monkeypatch.setattr(processes, "_gathered", lambda value, num: [value] * num)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}"))
    monkeypatch.setattr(dist, "rendezvous", lambda url: iter([(dist.HashStore(), 0, 2)]))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **options: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: ended.append(True))
    refused = pytest.raises(ConfigurationError, match=re.escape("processes 0 and 1 have the same GPU (GPU-0)"))
    with refused, processes.joined():
        raise AssertionError("they do not begin")
    assert ended == [True]


def test_a_thread_takes_the_device_of_whoever_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's device is each thread's own, and the first one at first."""
    taken: dict[str, int] = {}

    def take(index: Any) -> None:
        taken[threading.current_thread().name] = index

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", take)
    thread = threading.Thread(target=taking_device("cuda"), name="storing")
    thread.start()
    thread.join()
    taking_device("cpu")()
    assert taken == {"storing": 3}
