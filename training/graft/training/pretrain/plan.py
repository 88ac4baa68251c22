"""What a pretraining will take, before it starts: parameters, tokens, arithmetic, memory, and the layouts that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from torch import nn

from graft.training.batch.order import BatchSize
from graft.training.errors import ConfigurationError
from graft.training.launch.machine import Machine
from graft.training.loop.optim import num_steps_of
from graft.training.model.cost.activations import told
from graft.training.model.cost.flops import num_multiplied
from graft.training.model.loading import parts
from graft.training.parallel.mesh import AXES, Mesh
from graft.training.pretrain.assembly import Assembly
from graft.training.pretrain.memory import activations_of, memory
from graft.training.pretrain.settings import PretrainSettings
from graft.training.runtime import markdown

GUESSED_UTILISATION = 0.4
"""For the time, where nothing is measured yet."""


def plan(assembly: Assembly, data: Any | None, machine: Machine) -> str:
    """The plan in words and a table. Without data no epochs are told, and steps where ``max_steps`` says them."""
    settings = assembly.settings
    model = assembly.skeleton()
    num = sum(parameter.numel() for parameter in model.parameters())
    mesh = settings.mesh(machine.num)
    assembly.check_mesh(mesh, machine.num)
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * mesh.dp
    steps = settings.max_steps if data is None else num_steps_of(settings, data)
    tokens = None if steps is None else _num_tokens(settings, mesh, steps)
    lines = [
        f"{assembly.family.name}, {assembly.objective_name}: {num / 1e6:,.2f}M parameters, of which a token is "
        f"multiplied by {num_multiplied(model) / 1e6:,.2f}M; vocabulary {len(assembly.tokenizer)}",
        f"{'' if steps is None else f'{steps:,} '}steps of {rows} rows of {settings.max_length} tokens"
        f"{_read(tokens, None if data is None else data.num_rows * settings.max_length)}",
        _arithmetic(assembly.flops_per_token(), tokens, machine.peak),
        f"memory: {machine.said}; gradients arise as activations go: both are not needed at a time",
        *(line for one in parts(model).values() for line in told(activations_of(one, settings, mesh))),
        "",
        *_layouts(assembly, model, machine, chosen=mesh),
    ]
    return "\n".join(lines)


def _num_tokens(settings: PretrainSettings, mesh: Mesh, steps: int) -> int:
    """That are read in so many steps."""
    size = BatchSize(
        batches_per_step=settings.gradient_accumulation_steps * mesh.dp, warmup_steps=settings.batch_warmup_steps
    )
    return size.before(steps) * settings.per_device_train_batch_size * settings.max_length


def _read(tokens: int | None, in_text: int | None) -> str:
    """So many tokens, beside those of the text, as far as both are known."""
    if tokens is None:
        return "; how many steps is told with --max-steps, or with --text"
    return f": {tokens / 1e6:,.1f}M tokens" + (
        "" if in_text is None else f", {tokens / in_text:.2f} epochs of the text"
    )


def _arithmetic(per_token: float | None, tokens: int | None, peak: float | None) -> str:
    if per_token is None:
        return "FLOPs are not counted: how many experts a token asks is not known"
    if tokens is None:
        speed = "" if peak is None else f", {peak * GUESSED_UTILISATION / per_token:,.0f} tokens/s"
        return f"{per_token:.3g} FLOPs a token{speed and f'{speed} at {GUESSED_UTILISATION:.0%} MFU'}"
    told = f"{per_token * tokens:.3g} FLOPs"
    if peak is None:
        return told
    seconds = per_token * tokens / (peak * GUESSED_UTILISATION)
    return f"{told}, about {_duration(seconds)} at {GUESSED_UTILISATION:.0%} MFU"


def _layouts(assembly: Assembly, model: nn.Module, machine: Machine, *, chosen: Mesh) -> Iterator[str]:
    """A row for each, and what to change where the chosen one does not fit."""
    needs = {
        mesh: memory(model, assembly.settings, mesh, device=machine.kind) for mesh in _meshes(assembly, machine.num)
    }
    rows = []
    for mesh, need in needs.items():
        parts_of_it = (need.weights, need.gradients, need.optimizer, need.activations, max(need.head, need.back))
        stage = mesh.zero_stage if mesh.dp_shard > 1 else "–"
        verdict = ("yes" if need.total < machine.usable else "no") + (", chosen" if mesh == chosen else "")
        rows.append([*mesh.shape, stage, *(f"{one / 1e9:.3g}" for one in (*parts_of_it, need.total)), verdict])
    need_of = "weights | gradients | optimizer | activations | besides | GB each"
    yield markdown.table(f"PP | DP replicate | DP shard | CP | TP | ZeRO | {need_of} | fits", rows)
    if needs[chosen].total < machine.usable:
        return
    yield ""
    fitting = [mesh for mesh, need in needs.items() if need.total < machine.usable]
    if fitting:  # what splits matrices, rows or layers costs most in speed
        best = min(fitting, key=lambda mesh: (mesh.pp * mesh.cp * mesh.tp, needs[mesh].total))
        yield f"the chosen layout does not fit; {_named(best)} does, with {needs[best].total / 1e9:.3g} GB"
    else:
        yield _remedy(assembly, model, machine, list(needs))


def _named(mesh: Mesh) -> str:
    """The flags that choose it."""
    sizes = [f"--{axis.replace('_', '-')} {getattr(mesh, axis)}" for axis in AXES if getattr(mesh, axis) > 1]
    return " ".join([*sizes, *([f"--zero-stage {mesh.zero_stage}"] if mesh.dp_shard > 1 else [])]) or "one device"


def _remedy(assembly: Assembly, model: nn.Module, machine: Machine, meshes: list[Mesh]) -> str:
    """What of the settings to lower so that one of the layouts fits, the cheapest first."""
    settings = assembly.settings
    changes: dict[str, Any] = {}
    tried: list[tuple[str, Any]] = [("gradient_checkpointing", True)]
    batch, length = settings.per_device_train_batch_size, settings.max_length
    while batch > 1:
        tried.append(("per_device_train_batch_size", batch := batch // 2))
    while length >= 256:
        tried.append(("max_length", length := length // 2))
    for name, value in tried:
        changes[name] = value
        lowered = replace(settings, **changes)
        needs = {mesh: memory(model, lowered, mesh, device=machine.kind).total for mesh in meshes}
        mesh = min(meshes, key=needs.__getitem__)
        need = needs[mesh]
        if need < machine.usable:
            said = " ".join(
                f"--{key.replace('_', '-')}" + ("" if one is True else f" {one}") for key, one in changes.items()
            )
            return f"nothing fits as it is; with {said} it does: {need / 1e9:.3g} GB on {_named(mesh)}"
    return (
        f"nothing fits, even with {', '.join(changes)} lowered ({need / 1e9:.3g} GB on {_named(mesh)}): take more "
        "devices, larger ones, or a smaller model"
    )


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
