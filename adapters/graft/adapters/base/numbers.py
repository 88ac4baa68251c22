"""The numbers of a base's weights: one NaN in a weight makes every answer NaN, and every scale that is made of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graft.adapters.base import files as base_files
from graft.adapters.errors import InvalidBase, Reason
from graft.adapters.folder.numbers import EXPONENTS, inspect_tensor

_REMEDY = "its training diverged or the file was damaged: take an earlier checkpoint, or copy the file again"
_MOST_NAMED = 20


def check_numbers(folder: Path, *, leftovers: Collection[str] = ()) -> None:
    """Looks at every floating-point number of the base in `folder`, through read-only maps; `leftovers` are the names
    of tensors that no model loads.

    Raises InvalidBase naming the tensors that hold a NaN, an infinity or a magnitude above float16's largest; OSError.
    """
    found = [
        (f"{path.name}:{name[:200]}", problem)
        for path in base_files.loaded_files(folder)
        for name, problem in _problems(path)
        if name not in leftovers
    ]
    if not found:
        return
    reasons = [Reason(field=field, problem=problem) for field, problem in found[:_MOST_NAMED]]
    if len(found) > _MOST_NAMED:
        reasons.append(Reason(field="and", problem=f"{len(found) - _MOST_NAMED} more"))
    reasons[-1] = replace(reasons[-1], remedy=_REMEDY)
    raise InvalidBase(f"the weights in {folder} are broken", reasons)


def _problems(path: Path) -> Iterator[tuple[str, str]]:
    data: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
    tensors, _ = base_files.read_header(path)
    for name, info in tensors.items():
        if info.dtype in EXPONENTS:
            for problem in inspect_tensor(data, info).problems():
                yield name, problem
