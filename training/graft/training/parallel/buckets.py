"""Gradients side by side in flat buckets, each summed over the processes as soon as it is full: in the backward pass of
the last micro-batch, while what lies nearer to the input is still computed (DistributedDataParallel: Li et al. 2020,
arXiv:2006.15704, §3.2).
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._dtensor_spec import DTensorSpec, TensorMeta

BUCKET_BYTES = 25 << 20
"""As in DistributedDataParallel: large enough for the full speed of a link, small enough to begin early."""
LEAST_BYTES, LEAST_NUM = 1 << 20, 8
"""A small model makes so many buckets, but none below so many bytes: each call has a latency."""


@dataclass(frozen=True)
class Reduction:
    """Over which processes a gradient is summed, and which of them needs the sum: all, or the one that owns it."""

    group: dist.ProcessGroup
    owner: int | None = None
    """Its rank in ``holders``."""
    holders: dist.ProcessGroup | None = None
    """Where one process owns a parameter: those among which it is one."""

    @property
    def is_for_this(self) -> bool:
        """Whether this process needs it."""
        return self.owner is None or dist.get_rank(self.holders) == self.owner


class Bucket:
    """Some masters' gradients, float32, and behind them a number for each: in how many processes there was one."""

    def __init__(self, masters: Mapping[str, nn.Parameter], reduction: Reduction) -> None:
        self.masters, self.reduction = masters, reduction
        self.seen: set[str] = set()
        self.num_missing = len(masters)
        self._work: dist.Work | None = None
        self._before: Tensor | None = None
        """Sums of earlier calls since the last optimizer step."""
        locals_ = {name: local(one) for name, one in masters.items()}
        num = sum(one.numel() for one in locals_.values())
        self.flat = next(iter(locals_.values())).new_zeros(num + len(masters))
        self.flags = self.flat[num:]
        parts = self.flat[:num].split([one.numel() for one in locals_.values()])
        self._views = {name: part.view(locals_[name].shape) for name, part in zip(locals_, parts, strict=True)}
        self._values = None if reduction.owner is None else side_by_side(masters)

    def open(self) -> None:
        """Gradients are added here from now on. What was summed since the last optimizer step is kept aside."""
        if self.is_open:
            self._wait()
            self._before = self.flat.clone()
        else:
            self._work = self._before = None
            self.seen.clear()
        self.flat.zero_()
        for name, master in self.masters.items():
            master.grad = like(master, self._views[name])

    @property
    def is_open(self) -> bool:
        """False behind ``close``, and where the gradients were forgotten."""
        return all(master.grad is not None for master in self.masters.values()) and self._work is not None

    def reduce(self) -> None:
        """Begins the sum."""
        has = [float(name in self.seen) for name in self.masters]
        if all(has):
            self.flags.fill_(1.0)
        else:
            self.flags.copy_(torch.tensor(has))
        how = self.reduction
        self._work = (
            dist.reduce(self.flat, group=how.group, group_dst=how.owner, async_op=True)
            if how.holders is how.group
            else dist.all_reduce(self.flat, group=how.group, async_op=True)
        )

    def close(self) -> None:
        """Waits for the sum. A gradient that another process needs goes."""
        self._wait()
        self._work = None
        if not self.reduction.is_for_this:
            self.forget(self.masters)

    def share(self) -> dist.Work | None:
        """Begins to give the masters, as their owner has moved them, to the others."""
        how = self.reduction
        if self._values is None:
            return None
        return dist.broadcast(self._values, group=how.holders, group_src=how.owner, async_op=True)

    def forget(self, names: Iterable[str]) -> None:
        for name in names:
            self.masters[name].grad = None

    def _wait(self) -> None:
        if self._work is not None:
            self._work.wait()
        if self._before is not None:
            self.flat += self._before
            self._before = None


class Buckets:
    """All gradients that are summed over the same processes on each rank, in one order everywhere."""

    def __init__(
        self,
        working: Mapping[str, nn.Parameter],
        masters: Mapping[str, nn.Parameter],
        reductions: Mapping[str, Reduction],
    ) -> None:
        """Of each parameter in ``reductions``, which stand in the order of its use: the first is used first.

        ``working`` parameters are those that a backward pass adds to, ``masters`` where gradients belong.
        """
        self.buckets = [Bucket({name: masters[name] for name in names}, how) for names, how in cut(masters, reductions)]
        self._of = {name: bucket for bucket in self.buckets for name in bucket.masters}
        self._left: dict[str, int] = {}
        self._num_begun = 0
        self._hooks = [
            working[name].register_post_accumulate_grad_hook(functools.partial(self._arrived, name))
            for name in self._of
        ]

    def release(self) -> None:
        """Lets gradients and masters go: nothing is summed any more."""
        for hook in self._hooks:
            hook.remove()
        self.buckets, self._of, self._hooks = [], {}, []

    def open(self) -> None:
        """Before the first micro-batch of a call."""
        for bucket in self.buckets:
            bucket.open()
        self._left, self._num_begun = {}, 0

    def expect(self, times: int) -> None:
        """From now on each parameter is added to so often, and then its gradient is whole."""
        self._left = dict.fromkeys(self._of, times)
        for bucket in self.buckets:
            bucket.num_missing = len(bucket.masters)

    def reduce_rest(self) -> None:
        """Behind the last micro-batch: begins the sums of those that have waited for a gradient in vain."""
        for bucket in self.buckets[self._num_begun :]:
            bucket.reduce()
        self._left, self._num_begun = {}, len(self.buckets)

    def close(self) -> None:
        """Waits until all sums are there. Where no process had a gradient, there is none."""
        for bucket in self.buckets:
            bucket.close()
        here = [bucket for bucket in self.buckets if bucket.reduction.is_for_this]
        for device in {bucket.flags.device for bucket in here}:
            own = [bucket for bucket in here if bucket.flags.device == device]
            flags = torch.cat([bucket.flags for bucket in own]).tolist()
            places = [(bucket, name) for bucket in own for name in bucket.masters]
            for (bucket, name), flag in zip(places, flags, strict=True):
                if not flag:
                    bucket.forget([name])

    def share_updates(self) -> None:
        """Behind the optimizer's step: every process gets what only its owner moved."""
        for work in [bucket.share() for bucket in self.buckets]:
            if work is not None:
                work.wait()

    def _arrived(self, name: str, parameter: Tensor) -> None:
        bucket = self._of[name]
        bucket.seen.add(name)
        if name not in self._left:
            return
        self._left[name] -= 1
        assert self._left[name] >= 0, f"{name} is added to behind its sum"
        if self._left[name] == 0:
            bucket.num_missing -= 1
        while self._num_begun < len(self.buckets) and not self.buckets[self._num_begun].num_missing:
            self.buckets[self._num_begun].reduce()
            self._num_begun += 1


def cut(
    masters: Mapping[str, nn.Parameter], reductions: Mapping[str, Reduction]
) -> list[tuple[Sequence[str], Reduction]]:
    """The names of each bucket, in the order in which they become full: gradients come last to first."""
    order = list(reductions)[::-1]
    bytes_of = {name: 4 * local(masters[name]).numel() for name in order}
    limit = min(BUCKET_BYTES, max(LEAST_BYTES, sum(bytes_of.values()) // LEAST_NUM))
    filling: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    found: list[tuple[list[str], Reduction]] = []
    for name in order:
        how = reductions[name]
        key = (how, local(masters[name]).device)
        filling[key].append(name)
        if sum(bytes_of[one] for one in filling[key]) >= limit:
            found.append((filling.pop(key), how))
    found += [(names, reductions[names[0]]) for names in filling.values()]
    place = {name: number for number, name in enumerate(order)}
    return sorted(found, key=lambda one: place[one[0][-1]])


def dealt(parameters: Mapping[str, nn.Parameter], num: int) -> dict[str, int]:
    """An owner for each: the largest first, to whoever has least."""
    loads = [0] * num
    owners: dict[str, int] = {}
    for name in sorted(parameters, key=lambda name: (-parameters[name].numel(), name)):
        owners[name] = loads.index(min(loads))
        loads[owners[name]] += parameters[name].numel()
    return owners


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.detach().to_local() if isinstance(tensor, DTensor) else tensor.detach()


def like(master: Tensor, part: Tensor) -> Tensor:
    """This process's part of a tensor that is split as ``master`` is. It stays where it lies, which may be the host's
    memory in a mesh of GPUs: ``DTensor.from_local`` would move it to the mesh's kind of device.
    """
    if not isinstance(master, DTensor):
        return part
    meta = TensorMeta(master.shape, master.stride(), part.dtype)
    return DTensor(part, DTensorSpec(master.device_mesh, master.placements, meta), requires_grad=False)


@torch.no_grad()
def side_by_side(masters: Mapping[str, nn.Parameter]) -> Tensor:
    """Moves parameters that are no DTensors into one tensor, which is returned."""
    flat = torch.cat([one.flatten() for one in masters.values()])
    parts = flat.split([one.numel() for one in masters.values()])
    for master, part in zip(masters.values(), parts, strict=True):
        master.data = part.view(master.shape)
    return flat


def sum_together(tensors: Sequence[Tensor], group: dist.ProcessGroup) -> None:
    """Each over the processes of a group, in place, in as few calls as ``BUCKET_BYTES`` allow."""
    rest = list(tensors)
    while rest:
        some, size = [rest.pop(0)], 0
        while rest and (size := size + some[-1].nbytes) < BUCKET_BYTES:
            some.append(rest.pop(0))
        flat = torch.cat([one.flatten() for one in some])
        dist.all_reduce(flat, group=group)
        for one, part in zip(some, flat.split([one.numel() for one in some]), strict=True):
            one.copy_(part.view(one.shape))
