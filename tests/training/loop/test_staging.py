"""What a checkpoint holds is what the tensors were when it began, in memory that serves again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import filesystem
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from graft.training.loop.checkpoint import CheckpointWriter, complete_checkpoints, load_tensors
from graft.training.loop.staging import Staging
from graft.training.parallel.layout import Alone
from tests.training.parallel.threads import in_threads


def test_what_training_does_meanwhile_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_store, real = threading.Event(), dcp.save

    def save(*args: Any, **options: Any) -> Any:
        assert may_store.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(dcp, "save", save)
    weights = torch.arange(6.0)
    with CheckpointWriter(tmp_path) as writer:
        for step in (1, 2):
            writer.save(step, {"weights": weights}, {"step": step})
            weights += 10
            may_store.set()
            writer.wait()
            may_store.clear()
            found = {"weights": torch.empty(6)}
            load_tensors(tmp_path / f"checkpoint-{step}", found)
            assert torch.equal(found["weights"], torch.arange(6.0) + 10 * (step - 1))


def test_beside_a_gpu_the_training_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of torch's two ways to bring tensors to the host one synchronizes the current stream every ten million bytes; and
    whatever a thread asks of CUDA, it asks of the first GPU until it takes its process's.
    """
    taken: dict[str, int] = {}

    def take(index: int) -> None:
        taken[threading.current_thread().name] = index

    def looking_ahead(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("this one waits for the training")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", take)
    monkeypatch.setattr(filesystem, "_OverlappingCpuLoader", looking_ahead)
    with CheckpointWriter(tmp_path, layout=Alone("cuda")) as writer:
        writer.save(1, {"weights": torch.arange(6.0)}, {"step": 1})
    assert complete_checkpoints(tmp_path) == [tmp_path / "checkpoint-1"]
    assert taken == {"checkpoint_0": 3}


def test_the_same_memory_serves_as_long_as_shapes_stay() -> None:
    staging = Staging()
    tensors = {"weights": torch.randn(3, 4), "step": torch.tensor(1.0), "other": torch.randn(2).bfloat16()}
    first, _ = staging.copies(tensors)
    places = {name: one.data_ptr() for name, one in first.items()}
    tensors["other"] = torch.randn(5).bfloat16()
    tensors["weights"] *= 2
    second, are_whole = staging.copies(tensors)
    are_whole()
    assert all(torch.equal(second[name], one) for name, one in tensors.items())
    kept = {name for name, one in second.items() if one.data_ptr() == places[name]}
    assert kept == {"weights", "step"}
    assert staging.copies({"step": torch.tensor(2.0)})[0].keys() == {"step"}


def test_a_part_stays_a_part() -> None:
    def stage(rank: int) -> tuple[Tensor, Tensor, bool]:
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("dp_shard",))
        tensor = DTensor.from_local(torch.full((2, 3), float(rank)), mesh, [Shard(0)], run_check=False)
        staging = Staging()
        first = staging.copies({"weights": tensor})[0]["weights"]
        second = staging.copies({"weights": tensor})[0]["weights"]
        assert isinstance(first, DTensor) and first.placements == tensor.placements and first.shape == (4, 3)
        return tensor.to_local(), second.to_local(), first is second  # type: ignore[attr-defined]

    for own, copy, is_same in in_threads(2, stage):
        assert torch.equal(own, copy) and own.data_ptr() != copy.data_ptr() and is_same
