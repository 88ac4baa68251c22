"""The numbers in the tensors of a safetensors file, looked at bit by bit: none NaN or infinite, none absurd, and an
adapter's not all without effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graft.adapters.errors import Reason
from graft.adapters.folder import head
from graft.adapters.folder.manifest import TENSOR_FILE, Manifest
from graft.adapters.folder.tensor_header import TensorInfo

# dtype in the file → (integer view of the same width, mask of the exponent's bits: all set means inf or NaN).
EXPONENTS: Mapping[str, tuple[str, int]] = {
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
    "F32": ("<u4", 0x7F80_0000),
    "F64": ("<u8", 0x7FF0_0000_0000_0000),
}
# The bits of the largest magnitude up to MAX_MAGNITUDE: without their signs, floats are ordered as their bits are.
_LARGEST: Mapping[str, int] = {"F16": 0x7BFF, "BF16": 0x477F, "F32": 0x477F_E000, "F64": 0x40EF_FC00_0000_0000}
MAX_MAGNITUDE = 65504
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What one tensor's numbers show."""

    num_not_finite: int
    num_too_large: int
    is_zero: bool

    def problems(self) -> Iterator[str]:
        """What is wrong with them, as the end of a sentence."""
        if self.num_not_finite:
            yield f"holds {self.num_not_finite} numbers that are NaN or infinite"
        if self.num_too_large:
            yield f"holds {self.num_too_large} numbers above {MAX_MAGNITUDE} in magnitude, float16's largest"


def inspect_tensor(data: NDArray[np.uint8], info: TensorInfo) -> Numbers:
    """Looks through a map of the file, in pieces. The tensor's dtype is one of `EXPONENTS`."""
    view, exponent = EXPONENTS[info.dtype]
    width_bytes = np.dtype(view).itemsize
    kind = np.dtype(view).type
    # All bits but the sign: -0.0 is zero too.
    magnitude = kind((1 << (8 * width_bytes - 1)) - 1)
    num_not_finite, num_beyond, is_zero = 0, 0, True
    for start in range(info.start, info.end, _CHUNK_BYTES):
        count = min(_CHUNK_BYTES, info.end - start) // width_bytes
        magnitudes = np.frombuffer(data, dtype=view, count=count, offset=start) & magnitude
        largest = magnitudes.max(initial=0)
        is_zero = is_zero and largest == 0
        if largest > _LARGEST[info.dtype]:
            num_not_finite += int(np.count_nonzero(magnitudes >= kind(exponent)))
            num_beyond += int(np.count_nonzero(magnitudes > kind(_LARGEST[info.dtype])))
    return Numbers(num_not_finite=num_not_finite, num_too_large=num_beyond - num_not_finite, is_zero=is_zero)


@dataclass(frozen=True, kw_only=True)
class AdapterNumbers:
    """What the numbers show: `reasons` against them, and whether the adapter changes nothing."""

    reasons: tuple[Reason, ...]
    is_noop: bool


def inspect_numbers(folder: Path, manifest: Manifest) -> AdapterNumbers:
    """Look at every number through a read-only map, in pieces.

    An adapter is a no-op when in every pair lora_A or lora_B is zero throughout, or alpha is; a soft prompt when it is
    zero throughout, one with a head when that is. Raises OSError.
    """
    data: NDArray[np.uint8] = np.memmap(Path(folder) / TENSOR_FILE, dtype=np.uint8, mode="r")
    reasons, zero_of_module = [], dict[str, bool]()
    for name, info in manifest.tensors.items():
        if info.dtype not in EXPONENTS:
            problem = f"is of dtype {info.dtype}"
            remedy = f"save the adapter as one of {', '.join(EXPONENTS)}"
            reasons.append(Reason(field=f"{TENSOR_FILE}:{name[:200]}", problem=problem, remedy=remedy))
            continue
        tensor = inspect_tensor(data, info)
        remedy = "training diverged or the file was damaged: export it again, or train with a lower learning rate"
        field = f"{TENSOR_FILE}:{name[:200]}"
        reasons += [Reason(field=field, problem=problem, remedy=remedy) for problem in tensor.problems()]
        module = name.replace(".lora_B.", ".lora_A.").replace(".lora_embedding_B", ".lora_embedding_A")
        zero_of_module[module] = zero_of_module.get(module, False) or tensor.is_zero
    if manifest.num_virtual_tokens:
        is_noop = any(zero_of_module.values())  # its parts are multiplied
    else:
        of_head = (name for name in zero_of_module if (head.part_of(name) or ("", ""))[1] == "weight")
        is_noop = (
            any(zero_of_module[name] for name in of_head)
            or all(zero_of_module.values())
            or (manifest.alpha == 0 and not manifest.config.get("alpha_pattern"))
        )
    return AdapterNumbers(reasons=tuple(reasons), is_noop=is_noop)
