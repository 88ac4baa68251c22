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
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from transformers import PreTrainedModel

from graft.training.batch.data import Share
from graft.training.model.blocks import blocks
from graft.training.model.casting import cast
from graft.training.model.deferred import Deferred
from graft.training.parallel import context
from graft.training.parallel.buckets import Buckets, Reduction, dealt, local, sum_together
from graft.training.parallel.filling import fill
from graft.training.parallel.layout import Work, moved
from graft.training.parallel.mesh import AXES, Mesh
from graft.training.parallel.pipeline import Pipeline, cut
from graft.training.parallel.tensor import split_tensors

WORK = ("dp_replicate", "dp_shard", "cp")
"""The axes along which processes compute different parts of a loss."""


class Distributed:
    """A ``Layout`` of the processes of torch's default group, which must be as many as the mesh has."""

    is_alone = False

    def __init__(
        self, mesh: Mesh, *, device: str = "cpu", offloads: bool = False, sums_each_batch: bool = False
    ) -> None:
        """With ``offloads`` sharded weights, gradients and optimizers lie in the host's memory and are brought to the
        device block by block (ZeRO-Offload: Ren et al. 2021, arXiv:2101.06840). With ``sums_each_batch`` their
        gradients are exchanged behind every micro-batch, so that no process adds them up whole.
        """
        self.mesh, self.num, self.rank, self.device = mesh, mesh.size, dist.get_rank(), device
        self.is_first, self._offloads, self._sums_each_batch = self.rank == 0, offloads, sums_each_batch
        # What the hosts know is told among them, where they can: a GPU would have to be waited for.
        self._numbers_on = "cpu" if "cpu:" in dist.get_backend_config() else device
        self._devices: DeviceMesh = init_device_mesh(device, mesh.shape, mesh_dim_names=AXES)
        self._data: DeviceMesh = self._devices["dp_replicate", "dp_shard"]._flatten("dp")
        self._groups: dict[tuple[str, ...], dist.ProcessGroup] = {}
        self._partial: list[str] = []
        """Parameters that each process of tp has a part of the gradient of."""
        self._buckets = Buckets({}, {}, {})
        self._pipeline: Pipeline | None = None

    @property
    def share(self) -> Share:
        multiple = self.mesh.pp if self.mesh.schedule == "interleaved" else 1  # whole rounds
        return Share(index=self._data.get_local_rank(), num=self.mesh.dp, least=self.mesh.pp, multiple=multiple)

    def part(self, batch: Any) -> Any:
        if self.mesh.cp == 1:
            return batch
        ids = batch.input_ids_BL
        places = [one.to(ids.device) for one in context.places(ids.shape[1], self.mesh.cp)]
        return batch.part(places, self._devices["cp"].get_local_rank())

    def local(self, batch: Any) -> Any:
        return moved(self.part(batch), self.device)

    def agreed(self, values: Tensor) -> Tensor:
        dist.broadcast(values, src=0)
        return values

    def agree(self, value: float) -> float:
        said = torch.tensor([value], dtype=torch.float64, device=self._numbers_on)
        dist.broadcast(said, src=0)
        return float(said)

    def all(self, value: bool) -> bool:
        least = torch.tensor([float(value)], device=self._numbers_on)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        return bool(least)

    def place(self, model: nn.Module | Deferred, dtype: torch.dtype) -> nn.Module:
        """A model on this process's device, split and sharded, to be computed with in ``dtype``.

        Sharded weights stay in float32 and are gathered in ``dtype``; the others are held in it. Of a deferred model no
        process ever holds more than its part and one parameter.
        """
        is_sharded = self.mesh.shards_weights
        held = torch.float32 if is_sharded else dtype
        # FSDP takes whole weights to their device block by block: all of them may have no room there.
        whole_on = None if is_sharded and self.mesh.tp == self.mesh.pp == 1 else self.device
        made = model.model if isinstance(model, Deferred) else cast(model, held, whole_on)
        self.apply(made, compute_dtype=dtype if is_sharded and dtype != torch.float32 else None)
        if isinstance(model, Deferred):
            own = "cpu" if self._offloads else None
            fill(made, model.read, device=self.device, dtype=held, parameters_on=own)
        return made

    def apply(self, model: nn.Module, *, compute_dtype: torch.dtype | None = None) -> None:
        """Splits and shards a model in place, before optimizers are made. All processes must hold the same weights.

        With ``compute_dtype`` sharded weights stay in float32 and are gathered in that type.
        """
        if self.mesh.tp > 1:
            self._partial = split_tensors(model, self._devices["tp"])
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

    def rest(self, model: nn.Module) -> None:
        """What a forward pass without a way back has left gathered is let go: parameters are sharded again."""
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def _shard(self, model: nn.Module, compute_dtype: torch.dtype | None) -> None:
        mesh = self._devices["dp_replicate", "dp_shard"] if self.mesh.dp_replicate > 1 else self._devices["dp_shard"]
        policy = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
        options: dict[str, Any] = {
            "mesh": mesh,
            "mp_policy": policy,
            "reshard_after_forward": self.mesh.zero_stage == 3,
        }
        if self._offloads:
            options["offload_policy"] = CPUOffloadPolicy(pin_memory=self.device == "cuda")
        for layer in blocks(model):
            fully_shard(layer, **options)
        fully_shard(model, **options)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no other

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self._numbers_on)
        return dict(zip(names, self.summed(sums).tolist(), strict=True))

    def summed(self, values: Tensor) -> Tensor:
        dist.all_reduce(values, group=self._group(WORK))
        return values

    def hold(self, working: Mapping[str, nn.Parameter], masters: Mapping[str, nn.Parameter]) -> None:
        self._buckets = Buckets(working, masters, self._reductions(masters))

    def release(self) -> None:
        self._buckets.release()
        self._pipeline = None

    def _reductions(self, masters: Mapping[str, nn.Parameter]) -> dict[str, Reduction]:
        """How gradients are summed that FSDP does not sum by itself."""
        owners = self._owners(masters) or {}
        holders = self._devices["dp_shard"].get_group() if owners else None
        found = {}
        for name, master in masters.items():
            axes = ("dp_replicate", "dp_shard", "cp", "tp") if name in self._partial else WORK
            if _is_sharded(master) or all(getattr(self.mesh, axis) == 1 for axis in axes):
                continue
            is_dealt = owners and self.mesh.dp_replicate == 1
            group = holders if is_dealt and holders is not None else self._group(axes)
            found[name] = Reduction(group, owners.get(name), holders)
        return found

    def _group(self, axes: tuple[str, ...]) -> dist.ProcessGroup:
        """The processes that differ from this one along some axes only."""
        if axes not in self._groups:
            mesh = self._devices[axes]
            self._groups[axes] = (mesh if len(axes) == 1 else mesh._flatten("_".join(axes))).get_group()
        return self._groups[axes]

    def run(self, work: Work) -> dict[str, Tensor]:
        self._buckets.open()
        if self._pipeline is not None:
            self._buckets.expect(len(work.batches))
            means = self._pipeline.run(work)
        elif isinstance(work.model, FSDPModule):
            work.model.set_requires_gradient_sync(self._sums_each_batch or len(work.batches) == 1)
            means = work.add_gradients(before_last=functools.partial(work.model.set_requires_gradient_sync, True))
        else:
            means = work.add_gradients(before_last=functools.partial(self._buckets.expect, 1))
        self._buckets.reduce_rest()
        return means

    def sum_gradients(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._buckets.close()
        together: dict[tuple[str, ...], list[Tensor]] = defaultdict(list)
        for name, parameter in parameters.items():
            axes = [*(["cp"] if self.mesh.cp > 1 else []), *(["tp"] if name in self._partial else [])]
            if axes and parameter.grad is not None and _is_sharded(parameter):
                together[tuple(axes)].append(local(parameter.grad))
        for names, gradients in together.items():
            sum_together(gradients, self._group(names))

    def gradient_norm(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """Squares of what is here are summed in each process, then once for each way in which tensors are split. The
        sums meet on this process's device, wherever gradients lie.
        """
        parts: dict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        meshes: dict[tuple[Any, ...], tuple[DeviceMesh, tuple[Any, ...]]] = {}
        for parameter in parameters.values():
            gradient = parameter.grad
            if gradient is None:
                continue
            key: tuple[Any, ...] = ()
            if isinstance(gradient, DTensor):
                key = (gradient.device_mesh.mesh_dim_names, gradient.placements)
                meshes[key] = (gradient.device_mesh, gradient.placements)
            parts[key].append(local(gradient))
        norms = {key: torch.nn.utils.get_total_norm(some) for key, some in parts.items()}
        squares = {key: norm.to(self.device, torch.float64).square() for key, norm in norms.items()}
        for key, (mesh, placements) in meshes.items():
            for axis, placement in enumerate(placements):
                if not isinstance(placement, Replicate):
                    dist.all_reduce(squares[key], group=mesh.get_group(axis))
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        total = torch.stack([zero, *squares.values()]).sum()
        if self._owners(parameters) is not None:
            dist.all_reduce(total, group=self._devices["dp_shard"].get_group())
        if self.mesh.pp > 1:
            dist.all_reduce(total, group=self._devices["pp"].get_group())
        return total.sqrt()

    def owned(self, parameters: Mapping[str, nn.Parameter]) -> Mapping[str, nn.Parameter]:
        """All that is here; with ``zero_stage`` 1 as many elements as each of the others that share a copy, about."""
        owners = self._owners(parameters)
        here = self._devices["dp_shard"].get_local_rank()
        return {name: one for name, one in parameters.items() if owners is None or owners[name] == here}

    def share_updates(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._buckets.share_updates()

    def wait(self) -> None:
        dist.barrier()

    def _owners(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, int] | None:
        """Largest first to whoever has least; None where the optimizer's state is not dealt out by parameter."""
        if self.mesh.zero_stage != 1 or self.mesh.dp_shard == 1:
            return None
        return dealt(parameters, self.mesh.dp_shard)


def _is_sharded(parameter: nn.Parameter) -> bool:
    """Whether FSDP holds the parameter, which exchanges its gradients by itself."""
    names = parameter.device_mesh.mesh_dim_names if isinstance(parameter, DTensor) else None
    return "dp_shard" in (names or ())
