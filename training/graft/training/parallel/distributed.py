"""A layout over torch.distributed: data parallel, ZeRO, hybrid sharding, tensor parallel, and their combinations.

Gradients are summed, never averaged: each loss is divided by the counts of the whole step before it flows back.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from transformers import PreTrainedModel

from graft.training.batch.data import Share
from graft.training.model.blocks import blocks
from graft.training.parallel import context
from graft.training.parallel.layout import Work
from graft.training.parallel.mesh import AXES, Mesh
from graft.training.parallel.pipeline import Pipeline, cut
from graft.training.parallel.tensor import split_tensors


class Distributed:
    """A ``Layout`` of the processes of torch's default group, which must be as many as the mesh has."""

    is_alone = False

    def __init__(self, mesh: Mesh, *, device: str = "cpu") -> None:
        self.mesh, self.num, self.rank, self.device = mesh, mesh.size, dist.get_rank(), device
        self.is_first = self.rank == 0
        self._devices: DeviceMesh = init_device_mesh(device, mesh.shape, mesh_dim_names=AXES)
        self._data: DeviceMesh = self._devices["dp_replicate", "dp_shard"]._flatten("dp")
        self._work: DeviceMesh = self._devices["dp_replicate", "dp_shard", "cp"]._flatten("work")
        self._head_norms: list[str] = []
        self._pipeline: Pipeline | None = None

    @property
    def share(self) -> Share:
        multiple = self.mesh.pp if self.mesh.schedule == "interleaved" else 1  # whole rounds
        return Share(index=self._data.get_local_rank(), num=self.mesh.dp, least=self.mesh.pp, multiple=multiple)

    def local(self, batch: Any) -> Any:
        batch = batch if self.device == "cpu" else batch.to(self.device)
        if self.mesh.cp == 1:
            return batch
        length = batch.input_ids_BL.shape[1]
        places = [one.to(self.device) for one in context.places(length, self.mesh.cp)]
        return batch.part(places, self._devices["cp"].get_local_rank())

    def agree(self, value: float) -> float:
        said = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(said, src=0)
        return float(said)

    def all(self, value: bool) -> bool:
        least = torch.tensor([float(value)], device=self.device)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        return bool(least)

    def place(self, model: nn.Module, dtype: torch.dtype) -> nn.Module:
        """A float32 model on this process's device, split and sharded, to be computed with in ``dtype``.

        Sharded weights stay in float32 and are gathered in ``dtype``; the others are held in it.
        """
        is_sharded = self.mesh.shards_weights
        model = model.to(self.device, torch.float32 if is_sharded else dtype)
        self.apply(model, compute_dtype=dtype if is_sharded and dtype != torch.float32 else None)
        return model

    def apply(self, model: nn.Module, *, compute_dtype: torch.dtype | None = None) -> None:
        """Splits and shards a model in place, before optimizers are made. All processes must hold the same weights.

        With ``compute_dtype`` sharded weights stay in float32 and are gathered in that type.
        """
        if self.mesh.tp > 1:
            self._head_norms = split_tensors(model, self._devices["tp"])
        if self.mesh.cp > 1:
            assert isinstance(model, PreTrainedModel)
            context.gather_contexts(model, self._devices["cp"].get_group())
        stages: Sequence[nn.Module] = [model]
        if self.mesh.pp > 1:
            assert isinstance(model, PreTrainedModel)
            group, schedule = self._devices["pp"].get_group(), self.mesh.schedule
            made = cut(model, rank=self._devices["pp"].get_local_rank(), num=self.mesh.pp, schedule=schedule)
            self._pipeline = Pipeline(made, group=group, schedule=schedule, device=self.device)
            stages = list(made.values())
        if self.mesh.shards_weights:
            for stage in stages:
                self._shard(stage, compute_dtype)

    def _shard(self, model: nn.Module, compute_dtype: torch.dtype | None) -> None:
        mesh = self._devices["dp_replicate", "dp_shard"] if self.mesh.dp_replicate > 1 else self._devices["dp_shard"]
        policy = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
        options: dict[str, Any] = {
            "mesh": mesh,
            "mp_policy": policy,
            "reshard_after_forward": self.mesh.zero_stage == 3,
        }
        for layer in blocks(model):
            fully_shard(layer, **options)
        fully_shard(model, **options)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no other

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(sums, group=self._work.get_group())
        return dict(zip(names, sums.tolist(), strict=True))

    def run(self, work: Work) -> dict[str, float]:
        if self._pipeline is not None:
            return self._pipeline.run(work)
        model = work.model
        if not isinstance(model, FSDPModule):
            return work.add_gradients()
        model.set_requires_gradient_sync(len(work.batches) == 1)  # gradients are exchanged after the last one only
        return work.add_gradients(before_last=functools.partial(model.set_requires_gradient_sync, True))

    def sum_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            if parameter.grad is None:
                continue
            local = _local(parameter.grad)
            if name in self._head_norms:
                dist.all_reduce(local, group=self._devices["tp"].get_group())
            if not _is_sharded(parameter):
                dist.all_reduce(local, group=self._work.get_group())
            elif self.mesh.cp > 1:
                dist.all_reduce(local, group=self._devices["cp"].get_group())

    def gradient_norm(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """Squares are summed in each process, then once for each way in which tensors are split."""
        squares: dict[tuple[Any, ...], Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
        meshes: dict[tuple[Any, ...], tuple[DeviceMesh, tuple[Any, ...]]] = {}
        for parameter in parameters.values():
            gradient = parameter.grad
            if gradient is None:
                continue
            key: tuple[Any, ...] = ()
            if isinstance(gradient, DTensor):
                key = (gradient.device_mesh.mesh_dim_names, gradient.placements)
                meshes[key] = (gradient.device_mesh, gradient.placements)
            squares[key] = squares[key] + _local(gradient).double().square().sum()
        for key, (mesh, placements) in meshes.items():
            for axis, placement in enumerate(placements):
                if not isinstance(placement, Replicate):
                    dist.all_reduce(squares[key], group=mesh.get_group(axis))
        total = torch.stack(list(squares.values())).sum()
        if self.mesh.pp > 1:
            dist.all_reduce(total, group=self._devices["pp"].get_group())
        return total.sqrt()

    def owned(self, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, nn.Parameter]:
        """All that is here; with ``zero_stage`` 1 as many elements as each of the others that share a copy, about."""
        owners = self._owners(parameters)
        here = self._devices["dp_shard"].get_local_rank()
        return {name: one for name, one in parameters.items() if owners is None or owners[name] == here}

    def share_updates(self, parameters: Mapping[str, nn.Parameter]) -> None:
        owners = self._owners(parameters)
        if owners is not None:
            group = self._devices["dp_shard"].get_group()
            for name, parameter in parameters.items():
                dist.broadcast(parameter.detach(), group=group, group_src=owners[name])

    def wait(self) -> None:
        dist.barrier()

    def _owners(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, int] | None:
        """Largest first to whoever has least; None where the optimizer's state is not dealt out by parameter."""
        if self.mesh.zero_stage != 1 or self.mesh.dp_shard == 1:
            return None
        loads = [0] * self.mesh.dp_shard
        owners: dict[str, int] = {}
        for name in sorted(parameters, key=lambda name: (-parameters[name].numel(), name)):
            owners[name] = loads.index(min(loads))
            loads[owners[name]] += parameters[name].numel()
        return owners


def _local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _is_sharded(parameter: nn.Parameter) -> bool:
    """Whether FSDP holds the parameter, which exchanges its gradients by itself."""
    names = parameter.device_mesh.mesh_dim_names if isinstance(parameter, DTensor) else None
    return "dp_shard" in (names or ())
