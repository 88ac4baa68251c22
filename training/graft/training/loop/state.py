"""All that a run goes on from: masters, the optimizers' state, running means, and the random numbers' generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.optim import Optimizer

from graft.training.loop.checkpoint import load_tensors
from graft.training.parallel.layout import Layout


class Companion(Protocol):
    """What learns beside the optimizers, after each of their steps, such as which ranks a method keeps."""

    def tensors(self) -> Mapping[str, Tensor]:
        """What it goes on from, as it is now: kept in checkpoints, and read from them in place."""

    def taken_over(self) -> None:
        """After its tensors were read from a checkpoint."""

    def follow(self, masters: Mapping[str, nn.Parameter], number: int) -> None:
        """After so many steps: the masters have moved and still have the gradients that moved them."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a process holds of it."""

    masters: Mapping[str, nn.Parameter]
    optimizers: Sequence[Optimizer]
    averages: Mapping[str, Tensor] = field(default_factory=dict)
    """Running means of the masters, where the run keeps them."""
    generator: torch.Generator = field(default_factory=lambda: torch.default_generator)
    """What the model draws from on CPUs."""
    companion: Companion | None = None

    def tensors(self, layout: Layout) -> dict[str, Tensor]:
        """By names that do not depend on the mesh: ``master/<parameter>``, ``average/<parameter>``,
        ``optimizer/<key>/<parameter>`` and ``companion/<name>``. Of each process the generator of random numbers is
        beside them: ``random/<rank>``.
        """
        names = {id(master): name for name, master in self.masters.items()}
        found = self._own()
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                for key, value in state.items():
                    found[f"optimizer/{key}/{names[id(parameter)]}"] = torch.as_tensor(value)
        found |= {f"{name}/{layout.rank}": state for name, state in self._generators().items()}
        return found

    def restore(self, path: Path, stored: Mapping[str, TensorStorageMetadata], layout: Layout) -> None:
        """Takes everything over from a checkpoint that holds ``stored``, whatever mesh wrote it.

        Raises ``CheckpointError``.
        """
        into = self._own()
        generators: dict[str, str] = {}
        for name, state in self._generators().items():
            # A process that was not there before draws what the first one would.
            found = next((one for one in (f"{name}/{layout.rank}", f"{name}/0") if one in stored), None)
            if found is not None:
                generators[name], into[found] = found, state
        owners = {
            id(one): optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for one in group["params"]
        }
        for full_name, one in stored.items():
            kind, _, rest = full_name.partition("/")
            key, _, name = rest.partition("/")
            if kind != "optimizer" or id(self.masters.get(name)) not in owners:
                continue
            master = self.masters[name]
            # A state as large as its parameter lies where that does.
            value = (
                torch.zeros_like(master.detach(), dtype=one.properties.dtype)
                if one.size == master.shape
                else torch.zeros(one.size, dtype=one.properties.dtype, device=master.device)
            )
            into[full_name] = owners[id(master)].state[master][key] = value
        load_tensors(path, into, layout=layout)
        if self.companion is not None:
            self.companion.taken_over()
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                for key, value in state.items():
                    if value.ndim == 0 and not value.is_floating_point():
                        state[key] = int(value)  # bitsandbytes counts steps so
        for name, found in generators.items():
            (torch.cuda.set_rng_state if name == _CUDA else self.generator.set_state)(into[found])

    def _generators(self) -> dict[str, Tensor]:
        """States of the generators that models draw from."""
        found = {"random": self.generator.get_state()}
        if torch.cuda.is_available():
            found[_CUDA] = torch.cuda.get_rng_state()
        return found

    def _own(self) -> dict[str, Tensor]:
        """All but the optimizers' and the generators' states."""
        found: dict[str, Tensor] = {f"master/{name}": master.detach() for name, master in self.masters.items()}
        found |= {f"average/{name}": average for name, average in self.averages.items()}
        if self.companion is not None:
            found |= {f"companion/{name}": one for name, one in self.companion.tensors().items()}
        return found


_CUDA = "random_cuda"
