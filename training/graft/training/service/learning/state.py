"""What a training goes on from, in a folder: weights, the optimizer's state, and what it is a training of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graft.training.job.export import put_in_place
from graft.training.service.learning.held_base import HeldBase
from graft.training.service.learning.shape import Shape
from graft.training.service.learning.trainee import Trainee
from graft.training.service.refusal import Kind, Refusal

_TENSORS, _TOLD = "state.safetensors", "state.json"
_MASTER, _OPTIMIZER = "master/", "optimizer/"


def save(trainee: Trainee, folder: Path) -> None:
    """All or nothing, in the place of what was there. Gradients that no step has taken yet are not kept."""
    step = trainee.step
    kept = {
        name: one.detach().cpu().contiguous().clone()
        for name, one in step.state.tensors(step.layout).items()
        if name.startswith((_MASTER, _OPTIMIZER))
    }
    held = trainee.held
    told = {
        "base": held.base.name,
        "digest": held.base.digest,
        "form": str(held.form),
        "shape": trainee.shape.told(),
        "steps": step.number,
    }

    def write(draft: Path) -> None:
        save_file(kept, draft / _TENSORS)
        (draft / _TOLD).write_text(json.dumps(told, indent=1), encoding="utf-8")

    put_in_place(folder, write)


def shape_of(folder: Path, held: HeldBase) -> Shape:
    """Of the adapter whose state lies there. Raises ``Refusal`` where there is none, or it is another base's."""
    told = _told(folder)
    if (told["digest"], told["form"]) != (held.base.digest, str(held.form)):
        raise Refusal(
            Kind.INVALID,
            f"the state is that of an adapter of {told['base']} as {told['form']}; this trainer holds {held.base.name} "
            f"as {held.form}.",
        )
    return Shape.read(told["shape"])


def load(trainee: Trainee, folder: Path, *, with_optimizer: bool) -> None:
    """Takes the weights over, and with them the optimizer's state where that is wanted, else none.

    Raises ``Refusal`` where the state is that of an adapter of another shape or base.
    """
    shape = shape_of(folder, trainee.held)
    if _form(shape) != _form(trainee.shape):
        raise Refusal(
            Kind.INVALID,
            f"the state is that of an adapter of rank {shape.rank}, and this one has rank {trainee.shape.rank} or "
            "other layers: make a new training from it.",
        )
    try:
        kept: dict[str, Tensor] = load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise Refusal(Kind.GONE, f"the state cannot be read ({error}).") from None
    step = trainee.step
    step.forget_gradients()
    with torch.no_grad():
        for name, master in step.state.masters.items():
            master.copy_(kept[f"{_MASTER}{name}"])
    for optimizer in step.state.optimizers:
        optimizer.state.clear()
    if with_optimizer:
        _restore(trainee, kept)
    step.go_on(int(_told(folder)["steps"]) if with_optimizer else 0)


def _restore(trainee: Trainee, kept: dict[str, Tensor]) -> None:
    masters = trainee.step.state.masters
    (optimizer,) = trainee.step.state.optimizers
    for name, value in kept.items():
        kind, _, rest = name.partition("/")
        key, _, parameter = rest.partition("/")
        if f"{kind}/" == _OPTIMIZER:
            master = masters[parameter]
            optimizer.state[master][key] = value.to(master.device)


def _form(shape: Shape) -> tuple[object, ...]:
    """All but the seed, which says nothing of weights that were loaded."""
    return shape.rank, shape.attention, shape.feedforward


def _told(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / _TOLD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal(Kind.NOT_FOUND, "there is no such state: save it first, and look at its name.") from None
    return told
