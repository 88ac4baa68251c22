"""The numbers in one tensor of a safetensors file, looked at bit by bit: none NaN or infinite, none absurd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
