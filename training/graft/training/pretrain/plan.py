"""What a pretraining will take, before it starts: parameters, tokens, arithmetic, memory, and the layouts that fit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from torch import nn

from graft.training.errors import ConfigurationError
from graft.training.loop.optim import num_steps_of
from graft.training.model.flops import num_multiplied
from graft.training.model.peaks import peak_of_all
from graft.training.parallel.mesh import Mesh
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.memory import device_memory, memory
from graft.training.runtime import markdown

GUESSED_UTILISATION = 0.4
"""For the time, where nothing is measured yet."""


def plan(assembly: Assembly, data: Any, *, devices: int, device_bytes: float | None, device: str) -> str:
    """The plan in words and a table; ``device_bytes`` defaults to this machine's."""
    settings = assembly.settings
    model = assembly.skeleton()
    num = sum(parameter.numel() for parameter in model.parameters())
    room = device_memory(device, devices) if device_bytes is None else device_bytes
    peak = peak_of_all(device, devices)
    mesh = settings.mesh(devices)
    assembly.check_mesh(mesh, devices)
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * mesh.dp
    steps = num_steps_of(settings, data)
    per_token = assembly.flops_per_token()
    tokens = data.num_batches(steps) * settings.per_device_train_batch_size * settings.max_length
    lines = [
        f"{assembly.family.name}, {assembly.objective_name}: {num / 1e6:,.2f}M parameters, of which a token is "
        f"multiplied by {num_multiplied(model) / 1e6:,.2f}M; vocabulary {len(assembly.tokenizer)}",
        f"{steps:,} steps of {rows} rows of {settings.max_length} tokens: {tokens / 1e6:,.1f}M tokens, "
        f"{tokens / (data.num_rows * settings.max_length):.2f} epochs of the text",
        _arithmetic(per_token, tokens, peak),
        f"memory: {room / 1e9:,.1f} GB for each of {devices} {device} device{'s' * (devices > 1)}",
        "",
        _table(assembly, model, devices, room, device=device, chosen=mesh),
    ]
    return "\n".join(lines)


def _arithmetic(per_token: float | None, tokens: float, peak: float | None) -> str:
    if per_token is None:
        return "FLOPs are not counted: how many experts a token asks is not known"
    told = f"{per_token * tokens:.3g} FLOPs"
    if peak is None:
        return told
    seconds = per_token * tokens / (peak * GUESSED_UTILISATION)
    return f"{told}, about {_duration(seconds)} at {GUESSED_UTILISATION:.0%} MFU"


def _table(assembly: Assembly, model: nn.Module, devices: int, room: float, *, device: str, chosen: Mesh) -> str:
    need_of = "weights | gradients | optimizer | activations | GB each"
    rows = []
    for mesh in _meshes(assembly, devices):
        need = memory(model, assembly.settings, mesh, device=device)
        parts_of_it = (need.weights, need.gradients, need.optimizer, need.activations, need.total)
        stage = mesh.zero_stage if mesh.dp_shard > 1 else "–"
        verdict = ("yes" if need.total < room else "no") + (", chosen" if mesh == chosen else "")
        rows.append([*mesh.shape, stage, *(f"{one / 1e9:.3g}" for one in parts_of_it), verdict])
    return markdown.table(f"PP | DP replicate | DP shard | CP | TP | ZeRO | {need_of} | fits", rows)


def _meshes(assembly: Assembly, devices: int) -> Iterator[Mesh]:
    """All that this model can be trained on, with this number of devices."""
    divisors = [one for one in range(1, devices + 1) if devices % one == 0]
    split = divisors if assembly.family.is_splittable else [1]
    for pp, cp, tp, replicate in product(split, split, split, divisors):
        if devices % (pp * cp * tp * replicate):
            continue
        shard = devices // (pp * cp * tp * replicate)
        for stage in (1, 2, 3) if shard > 1 and pp * cp * tp == 1 else (3,):
            mesh = Mesh(pp=pp, dp_replicate=replicate, dp_shard=shard, cp=cp, tp=tp, zero_stage=stage)
            try:
                assembly.check_mesh(mesh, devices)
            except ConfigurationError:
                continue
            yield mesh


def _duration(seconds: float) -> str:
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
