"""The linear modules of a base, from its weight files: plain, or packed by bitsandbytes or compressed-tensors.

Packed integers have shapes that say nothing of the layer's; its own shape lies beside them: as JSON in
`MODULE.weight.quant_state.bitsandbytes__nf4`, as two integers in `MODULE.weight_shape`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from graft.adapters.errors import Reason
from graft.adapters.folder.tensor_header import TensorInfo

Shape = tuple[int, int]
"""(out_features, in_features)."""

# Two-dimensional weights that are look-up tables, not linear layers: the last part of their module path.
_TOKEN_TABLES = ("embed_tokens", "embed_in", "wte", "word_embeddings", "shared")
TABLES = (*_TOKEN_TABLES, "wpe", "position_embeddings")
_QUANT_STATES = (".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4")
_WEIGHT_SHAPE = ".weight_shape"
_MAX_STATE_BYTES = 1 << 16
_BESIDE = (".SCB", ".weight_format", ".weight_scale", ".weight_zero_point", ".weight_g_idx", _WEIGHT_SHAPE)
"""What else lies beside quantized weights: no parameters of the model's."""


@dataclass(frozen=True, kw_only=True)
class LinearModules:
    """By module path; `num_parameters` counts all numbers of the model, packed ones by their layers' shapes."""

    shapes: Mapping[str, Shape]
    num_parameters: int


def embedding_width(tensors: Mapping[str, TensorInfo]) -> int | None:
    """Numbers in a token's embedding, of the first table of tokens; None where none is found."""
    for name, info in tensors.items():
        if name.endswith(".weight") and name.split(".")[-2] in _TOKEN_TABLES and len(info.shape) == 2:
            return info.shape[1]
    return None


def packed_shapes(path: Path, tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, Shape], list[Reason]]:
    """The layers that one file holds packed, and the shapes that cannot be read. `tensors` is the file's header."""
    shapes: dict[str, Shape] = {}
    reasons: list[Reason] = []
    for name, info in tensors.items():
        suffix = next((one for one in (*_QUANT_STATES, _WEIGHT_SHAPE) if name.endswith(one)), None)
        if suffix is None:
            continue
        shape = _shape(path, info, as_json=suffix in _QUANT_STATES)
        if shape is None:
            remedy = "save the quantized model again, or take the plain weights"
            reasons.append(Reason(field=f"{path.name}:{name[:200]}", problem="holds no layer's shape", remedy=remedy))
        else:
            shapes[name.removesuffix(suffix)] = shape
    return shapes, reasons


def linear_modules(tensors: Mapping[str, TensorInfo], packed: Mapping[str, Shape]) -> LinearModules:
    """From all headers and the shapes of what is packed."""
    shapes = dict(_plain(tensors, packed)) | dict(packed)
    num_parameters = sum(math.prod(shape) for shape in packed.values())
    for name, info in tensors.items():
        if not name.endswith(_BESIDE) and _owner(name) not in packed:
            num_parameters += math.prod(info.shape)
    return LinearModules(shapes=MappingProxyType(shapes), num_parameters=num_parameters)


def _plain(tensors: Mapping[str, TensorInfo], packed: Mapping[str, Shape]) -> Iterator[tuple[str, Shape]]:
    for name, info in tensors.items():
        module = name.removesuffix(".weight")
        is_table = module.rsplit(".", 1)[-1] in TABLES
        if module != name and len(info.shape) == 2 and module not in packed and not is_table:
            yield module, (info.shape[0], info.shape[1])


def _owner(name: str) -> str:
    """The module whose weight a tensor is a part of: `a.weight`, `a.weight.absmax` and `a.weight_packed` are of `a`."""
    head, dot, _ = name.partition(".weight")
    return head if dot else ""


def _shape(path: Path, info: TensorInfo, *, as_json: bool) -> Shape | None:
    num_bytes = info.end - info.start
    if num_bytes > _MAX_STATE_BYTES:
        return None
    with path.open("rb") as file:
        file.seek(info.start)
        data = file.read(num_bytes)
    sizes = _sizes_of_json(data) if as_json else _sizes_of_integers(data, info)
    if not isinstance(sizes, list) or len(sizes) != 2 or not all(type(one) is int and one > 0 for one in sizes):
        return None
    return sizes[0], sizes[1]


def _sizes_of_json(data: bytes) -> object:
    try:
        state = json.loads(data)
    except ValueError:
        return None
    return state.get("shape") if isinstance(state, dict) else None


def _sizes_of_integers(data: bytes, info: TensorInfo) -> list[int] | None:
    width_bytes = {"I64": 8, "I32": 4}.get(info.dtype)
    if width_bytes is None or len(data) != 2 * width_bytes:
        return None
    return [int.from_bytes(data[at : at + width_bytes], "little", signed=True) for at in (0, width_bytes)]
