"""The header of a safetensors file, checked against the file's size before anything is mapped.

Format: 8 bytes, little endian: length N of the header; N bytes of JSON; the tensors' bytes without gaps.
See https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from graft.adapters.errors import Reason
from graft.adapters.folder.strict_json import parse_json_object

# Bits per element of every dtype that the format names.
DTYPE_BITS: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 8,
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
        "U8": 8,
        "I8": 8,
        "F8_E4M3": 8,
        "F8_E5M2": 8,
        "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8,
        "F8_E5M2FNUZ": 8,
        "I16": 16,
        "U16": 16,
        "F16": 16,
        "BF16": 16,
        "I32": 32,
        "U32": 32,
        "F32": 32,
        "C64": 64,
        "F64": 64,
        "I64": 64,
        "U64": 64,
    }
)
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor: `start` and `end` count bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_tensor_header(path: Path, *, max_header_bytes: int) -> tuple[Mapping[str, TensorInfo], list[Reason]]:
    """The tensors that the file's header names, and all that is wrong with it. The tensors' bytes are not read."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            problem = _length_problem(size_bytes, header_bytes, max_header_bytes)
            if problem:
                return {}, [Reason(field=path.name, problem=problem, remedy="write the file again")]
            data = file.read(header_bytes)
    except OSError as error:
        return {}, [Reason(field=path.name, problem=f"cannot be read ({error.strerror})")]
    if not data.startswith(b"{"):
        return {}, [Reason(field=path.name, problem="its header does not begin with '{'")]
    entries, reasons = parse_json_object(data, field=path.name)
    if reasons:
        return {}, reasons
    return _tensors(path.name, entries, _LENGTH_BYTES + header_bytes, size_bytes)


def _length_problem(size_bytes: int, header_bytes: int, max_header_bytes: int) -> str | None:
    if size_bytes < _LENGTH_BYTES + 2:
        return f"is {size_bytes} bytes long, too short for a safetensors file"
    if header_bytes > max_header_bytes:
        return f"its header claims {header_bytes} bytes; the limit is {max_header_bytes}"
    if header_bytes > size_bytes - _LENGTH_BYTES:
        return f"its header claims {header_bytes} bytes; the file has {size_bytes - _LENGTH_BYTES} left"
    return None


def _tensors(
    file: str, entries: Mapping[str, object], data_start: int, size_bytes: int
) -> tuple[Mapping[str, TensorInfo], list[Reason]]:
    tensors: dict[str, TensorInfo] = {}
    reasons: list[Reason] = []
    for name, entry in entries.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                reasons.append(Reason(field=f"{file}:__metadata__", problem="must map strings to strings"))
            continue
        parsed = _tensor(entry, data_start)
        if isinstance(parsed, str):
            reasons.append(Reason(field=f"{file}:{name[:200]}", problem=parsed))
        else:
            tensors[name] = parsed
    if not reasons:
        reasons = _layout_reasons(file, tensors, data_start, size_bytes)
    return tensors, reasons


def _tensor(entry: object, data_start: int) -> TensorInfo | str:
    """The tensor that a header entry describes, or what is wrong with the entry."""
    if not isinstance(entry, dict) or set(entry) != _ENTRY_KEYS:
        return f"its entry must have exactly the keys {', '.join(sorted(_ENTRY_KEYS))}"
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        return f"unknown dtype {str(dtype)[:50]!r}"
    if not _counts(shape) or len(shape) > 8:
        return "its shape must be a list of at most 8 non-negative integers"
    if not _counts(offsets) or len(offsets) != 2:
        return "its data_offsets must be two non-negative integers"
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        return f"shape {shape} of {dtype} needs {bits / 8:g} bytes, its offsets span {offsets[1] - offsets[0]}"
    return TensorInfo(dtype=dtype, shape=tuple(shape), start=data_start + offsets[0], end=data_start + offsets[1])


def _counts(value: object) -> bool:
    # bool is an int in Python; 2**63 keeps the product of a hostile shape small.
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _layout_reasons(file: str, tensors: Mapping[str, TensorInfo], data_start: int, size_bytes: int) -> list[Reason]:
    reasons: list[Reason] = []
    position = data_start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != position:
            kind = "overlaps its neighbour" if info.start < position else "leaves a gap before it"
            reasons.append(Reason(field=f"{file}:{name[:200]}", problem=f"begins at byte {info.start} and {kind}"))
        position = max(position, info.end)
    if position != size_bytes:
        problem = f"its tensors end at byte {position}, the file at {size_bytes}"
        reasons.append(Reason(field=file, problem=problem, remedy="the file was cut or padded; copy it again"))
    return reasons
