"""All tensors that a run goes on from: masters, the optimizers' state, and the random numbers' generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from graft.training.checkpoint import load_tensors, tensor_shapes
from graft.training.parallel.layout import Layout


def tensors_of(
    masters: Mapping[str, nn.Parameter], optimizers: Sequence[Optimizer], layout: Layout
) -> dict[str, Tensor]:
    """By names that do not depend on the mesh: ``master/<parameter>`` and ``optimizer/<key>/<parameter>``.

    Of each process the generator of random numbers is beside them: ``random/<rank>``.
    """
    names = {id(master): name for name, master in masters.items()}
    found: dict[str, Tensor] = {f"master/{name}": master.detach() for name, master in masters.items()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                found[f"optimizer/{key}/{names[id(parameter)]}"] = value
    found[f"random/{layout.rank}"] = torch.get_rng_state()
    return found


def restore(path: Path, masters: Mapping[str, nn.Parameter], optimizers: Sequence[Optimizer], layout: Layout) -> None:
    """Fills masters and optimizers from a checkpoint. Raises ``CheckpointError``."""
    shapes = tensor_shapes(path)
    into: dict[str, Tensor] = {f"master/{name}": master.detach() for name, master in masters.items()}
    # A process that was not there before draws what the first one would.
    random = next(name for name in (f"random/{layout.rank}", "random/0") if name in shapes)
    into[random] = torch.get_rng_state()
    owners = {
        id(one): optimizer for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]
    }
    for full_name, shape in shapes.items():
        kind, _, rest = full_name.partition("/")
        key, _, name = rest.partition("/")
        if kind != "optimizer" or id(masters.get(name)) not in owners:
            continue
        master = masters[name]
        # A state as large as its parameter lies where that does.
        value = torch.zeros_like(master.detach()) if shape == master.shape else torch.zeros(shape)
        into[full_name] = owners[id(master)].state[master][key] = value
    load_tensors(path, into, layout=layout)
    torch.set_rng_state(into[random])
