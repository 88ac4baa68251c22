"""Whether a base's files hold an output head that is not its embedding's copy, whatever config.json says.

Where config.json ties the two and both lie there with different numbers, transformers computes with the head and
engines with the embedding: two models under one name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graft.adapters.base import files as base_files
from graft.adapters.base.linear_modules import TABLES
from graft.adapters.folder.tensor_header import TensorInfo

_HEADS = ("lm_head.weight", "embed_out.weight")
_CHUNK_BYTES = 1 << 24
_Place = tuple[Path, TensorInfo]


def own_head(folder: Path) -> str | None:
    """The name of the output head that differs from an embedding of its shape; None where there is no such head."""
    found: dict[str, _Place] = {}
    for path in base_files.loaded_files(folder):
        tensors, _ = base_files.read_header(path)
        found |= {name: (path, info) for name, info in tensors.items()}
    for head in _HEADS:
        for name in found if head in found else ():
            is_table = name.removesuffix(".weight").rsplit(".", 1)[-1] in TABLES
            if is_table and found[name][1].shape == found[head][1].shape and not _equal(found[name], found[head]):
                return head
    return None


def _equal(one: _Place, other: _Place) -> bool:
    if one[1].dtype != other[1].dtype:
        return False
    first, second = (_bytes(place) for place in (one, other))
    starts = range(0, len(first), _CHUNK_BYTES)
    return all(np.array_equal(first[at : at + _CHUNK_BYTES], second[at : at + _CHUNK_BYTES]) for at in starts)


def _bytes(place: _Place) -> NDArray[np.uint8]:
    data: NDArray[np.uint8] = np.memmap(place[0], dtype=np.uint8, mode="r")
    return data[place[1].start : place[1].end]
