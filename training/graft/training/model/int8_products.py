"""Products of 8-bit integers on CPUs without VNNI: there oneDNN, and torch with it, adds pairs of them in 16 bits,
which saturate (oneDNN's guide to int8 data types). LLM.int8() would be off by parts of its result.
"""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

_EXACT = 1024
"""Products of 127 · 127 that float32 adds up without rounding."""
_registered: list[torch.library.Library] = []


@functools.cache
def make_products_exact() -> None:
    """Where torch's saturate, bitsandbytes gets others. It must have been imported."""
    if not _are_exact():
        library = torch.library.Library("bitsandbytes", "IMPL")
        with warnings.catch_warnings(action="ignore"):  # that another kernel is replaced is meant
            library.impl("int8_linear_matmul", product, "CPU", allow_override=True)
        _registered.append(library)


def _are_exact() -> bool:
    full = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(full, full.T.contiguous()) == 64 * 127 * 127).all())


def product(left: Tensor, right_OI: Tensor) -> Tensor:
    """int8 (…, I) times int8 (O, I), in int32: (…, O)."""
    parts = zip(left.split(_EXACT, -1), right_OI.split(_EXACT, -1), strict=True)
    return torch.stack([(one.float() @ other.float().T).to(torch.int32) for one, other in parts]).sum(
        0, dtype=torch.int32
    )
