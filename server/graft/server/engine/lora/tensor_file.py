"""Tensors in a file in safetensors format, as views of a memory map: hundreds of small ones at the price of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch

from graft.adapters.folder.tensor_header import read_tensor_header

_MAX_HEADER_BYTES = 1 << 24
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def map_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor by name; bytes are read when they are used. Raises `ValueError` for a broken file, `OSError`."""
    infos, reasons = read_tensor_header(path, max_header_bytes=_MAX_HEADER_BYTES)
    if reasons:
        raise ValueError(f"{path} cannot be read: {'; '.join(map(str, reasons))}")
    size = path.stat().st_size
    data = torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage.from_file(str(path), False, size))
    tensors = {}
    for name, info in infos.items():
        if info.dtype not in _DTYPES:
            raise ValueError(f"{name} in {path} is of type {info.dtype}, not {', '.join(_DTYPES)}")
        dtype = _DTYPES[info.dtype]
        raw = data[info.start : info.end]
        if info.start % dtype.itemsize:
            raw = raw.clone()
        tensors[name] = raw.view(dtype).view(info.shape)
    return tensors


class Scratch:
    """Memory that is used again: taking fresh pages costs more than filling them."""

    def __init__(self) -> None:
        self._data = torch.empty(0, dtype=torch.uint8)

    def take(self, num_bytes: int) -> torch.Tensor:
        """`num_bytes` bytes, until the next call."""
        if len(self._data) < num_bytes:
            self._data = torch.empty(num_bytes, dtype=torch.uint8)
        return self._data[:num_bytes]


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype,
    scratch: Scratch,
    *,
    exact: Mapping[str, torch.Tensor] = MappingProxyType({}),
) -> None:
    """Write all as `dtype`, and before them the `exact` ones as float32, cast and made contiguous on the way.

    Raises `OSError`.
    """
    kinds = {**dict.fromkeys(exact, torch.float32), **dict.fromkeys(tensors, dtype)}
    tensors = {**exact, **tensors}
    header, end = {}, 0
    for name, kind in kinds.items():
        begin, end = end, end + tensors[name].numel() * kind.itemsize
        header[name] = {"dtype": _NAMES[kind], "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    # In memory first and not through a map of the file: a full disk is then an error and not the end of the process.
    data = scratch.take(end)
    for name, tensor in tensors.items():
        begin, stop = header[name]["data_offsets"]
        data[begin:stop].view(kinds[name]).view(tensor.shape).copy_(tensor)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(data.numpy()))
