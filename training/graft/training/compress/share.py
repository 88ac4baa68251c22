"""Which weights of a quantized folder are not in its form, and how much of the model that is."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from graft.adapters.base import files as base_files

_FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True, kw_only=True)
class Outside:
    """Weights of one kind that stay as they were; ``share`` is of all numbers of the model."""

    name: str
    """Of the tensors; layers are written as ``*``."""
    share: float

    def __str__(self) -> str:
        return f"{self.name} {self.share:.1%}"


def outside_form(origin: Path, made: Path) -> tuple[Outside, ...]:
    """What of ``origin``'s weights lies in ``made`` as floating-point numbers still, the largest share first."""
    before, after = base_files.read(origin).tensors, base_files.read(made).tensors
    modules = {name.rpartition(".")[0] for name in after}
    total = sum(math.prod(info.shape) for name, info in before.items() if name.rpartition(".")[0] in modules)
    sums: dict[str, int] = {}
    for name, info in before.items():
        if name in after and after[name].dtype in _FLOATS:
            kind = "norms and biases" if len(info.shape) < 2 else re.sub(r"\.\d+\.", ".*.", name)
            sums[kind] = sums.get(kind, 0) + math.prod(info.shape)
    found = [Outside(name=kind, share=count / total) for kind, count in sums.items()]
    return tuple(sorted(found, key=lambda one: -one.share))


def summary(outside: tuple[Outside, ...]) -> str:
    """One line for people."""
    whole = sum(one.share for one in outside)
    return f"{whole:.1%} of the weights stay in bfloat16: " + ", ".join(map(str, outside))
