"""Which weights of a quantized folder are not in its form, and how much of the model that is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from graft.adapters.base import files as base_files

_FLOATS = ("F16", "BF16", "F32", "F64")


def outside_form(origin: Path, made: Path) -> dict[str, float]:
    """What of ``origin``'s weights lies in ``made`` as floating-point numbers still, the largest share of all numbers
    first: by the tensors' names, in which layers are written as ``*``.
    """
    before, after = base_files.read(origin).tensors, base_files.read(made).tensors
    modules = {name.rpartition(".")[0] for name in after}
    total = sum(math.prod(info.shape) for name, info in before.items() if name.rpartition(".")[0] in modules)
    sums: dict[str, int] = {}
    for name, info in before.items():
        if name in after and after[name].dtype in _FLOATS:
            kind = "norms and biases" if len(info.shape) < 2 else re.sub(r"\.\d+\.", ".*.", name)
            sums[kind] = sums.get(kind, 0) + math.prod(info.shape)
    return {kind: sums[kind] / total for kind in sorted(sums, key=lambda kind: -sums[kind])}


def summary(outside: Mapping[str, float]) -> str:
    """One line for people."""
    kinds = ", ".join(f"{kind} {share:.1%}" for kind, share in outside.items())
    return f"{sum(outside.values()):.1%} of the weights stay in bfloat16: {kinds}"
