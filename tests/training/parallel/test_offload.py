"""Weights in the host's memory under a mesh of another kind of device: nothing brings them there by itself, and what is
computed of both meets in one place.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from graft.training.loop.optim import adamw, clip_gradients, set_learning_rates
from graft.training.model.casting import cast
from graft.training.model.deferred import drawn
from graft.training.parallel import distributed
from graft.training.parallel.buckets import like, local
from graft.training.parallel.distributed import Distributed
from graft.training.parallel.filling import fill, part_of
from graft.training.parallel.mesh import Mesh
from tests.training.parallel.test_tensor import model_of
from tests.training.parallel.threads import in_threads
from tests.training.second_device import SECOND, SecondDeviceTensor, second_device

MESH = Mesh(dp_shard=2)
GRADIENT, RATE = 0.5, 1e-2


def sharded(one_at_a_time: threading.Lock) -> tuple[Distributed, nn.Module]:
    layout = Distributed(MESH, offloads=True)
    with one_at_a_time:  # torch's generator is all threads'
        deferred = drawn(lambda: model_of("qwen3", tie=False))
        assert deferred is not None
    layout.apply(deferred.model)
    return layout, deferred.model


def test_shards_are_filled_and_learn_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model_of("qwen3", tie=False)
    expected = {name: one.detach().clone() for name, one in whole.named_parameters()}
    optimized = dict(whole.named_parameters())
    for one in optimized.values():
        one.grad = torch.full_like(one, GRADIENT)
    norm = float(torch.nn.utils.get_total_norm([one.grad for one in optimized.values() if one.grad is not None]))
    step(optimized, norm)
    one_at_a_time, met = threading.Lock(), threading.Barrier(2)
    summed: list[type[Tensor]] = []
    all_reduce = dist.all_reduce

    def noted(tensor: Tensor, *args: Any, **options: Any) -> Any:
        summed.append(type(tensor))
        return all_reduce(tensor, *args, **options)

    monkeypatch.setattr(dist, "all_reduce", noted)

    def learn(rank: int) -> float:
        layout, model = sharded(one_at_a_time)
        met.wait()  # FSDP looks for streams there
        monkeypatch.setattr(DeviceMesh, "device_type", property(lambda mesh: SECOND.type))
        fill(model, lambda name, part: expected[name][part].clone(), device="cpu", dtype=torch.float32)
        parameters = dict(model.named_parameters())
        for name, one in parameters.items():
            assert isinstance(one, DTensor) and local(one).device.type == "cpu", name
            assert torch.equal(local(one), expected[name][part_of(one)]), name
            one.grad = like(one, torch.full_like(local(one), GRADIENT))
        with second_device() as device:
            layout.device = device.type
            found = layout.gradient_norm(parameters)
            assert isinstance(found, SecondDeviceTensor)
        step(parameters, norm)
        for name, one in parameters.items():
            assert torch.equal(local(one), optimized[name].detach()[part_of(one)]), name
        return float(found.inner)

    assert in_threads(2, learn) == pytest.approx([norm] * 2, rel=1e-6)
    assert summed == [SecondDeviceTensor] * 2


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (Mesh(dp_shard=2), None),
        (Mesh(dp_shard=2, zero_stage=2), None),
        (Mesh(dp_replicate=2), "cpu"),
        (Mesh(tp=2), "cpu"),
    ],
    ids=["zero3", "zero2", "dp", "tp"],
)
def test_what_is_whole_goes_to_its_device_at_once_unless_it_is_sharded(
    mesh: Mesh, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP takes it there block by block."""
    asked: list[Any] = []

    def noted(model: nn.Module, dtype: torch.dtype, device: Any) -> nn.Module:
        asked.append(device)
        return cast(model, dtype, device)

    monkeypatch.setattr(distributed, "cast", noted)
    one_at_a_time = threading.Lock()

    def place(rank: int) -> None:
        layout = Distributed(mesh)
        with one_at_a_time:
            model = model_of("qwen3", tie=False)
        placed = layout.place(model, torch.bfloat16)
        assert {local(one).device.type for one in placed.parameters()} == {"cpu"}

    in_threads(2, place)
    assert asked == [expected] * 2


def step(parameters: dict[str, nn.Parameter], norm: float) -> None:
    clip_gradients(parameters, norm, max_norm=1.0)
    optimizers = adamw()(parameters)
    set_learning_rates(optimizers, RATE)
    for one in optimizers:
        one.step()
