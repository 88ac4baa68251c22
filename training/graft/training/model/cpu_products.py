"""Products of bfloat16 matrices on CPUs that have no instructions for them.

oneDNN multiplies them there all the same, one number after the other: five times as slow as in float32, with the
conversions counted (Intel Xeon with AVX-512 and without AVX512_BF16 or AMX: LOG). So they are computed in float32 and
rounded once, which is what the instructions do: sums of bfloat16 products in float32 (Intel's "BFLOAT16 Hardware
Numerics Definition", 2018).
"""

from __future__ import annotations

import contextlib
import platform
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

_FEW = 8
"""Rows: a product of so few is bound by reading the other matrix, which converting it only lengthens."""
PART = 1 << 21
"""Numbers of a matrix in float32 at a time: 8 MB, which the allocator keeps."""

_library: torch.library.Library | None = None


def multiply_in_float32() -> None:
    """From now on all products of bfloat16 matrices on the CPU of this process, where it has no instructions for them:
    forward and backward, whoever asks for them. Compiled code multiplies as before.
    """
    global _library
    if _library is None and not has_instructions():
        _library = _replaced()


@cache
def has_instructions() -> bool:
    """Whether the CPU multiplies bfloat16 itself. oneDNN's own answer is yes wherever it finds a way."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() or not _is_x86()


@cache
def multiplies_well() -> bool:
    """Whether products of bfloat16 take no longer than those of float32: by instructions, or as this file has it."""
    return _is_x86() or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


@contextlib.contextmanager
def multiplying_in_float32() -> Iterator[None]:
    """The same inside, on every CPU."""
    library = _replaced()
    try:
        yield
    finally:
        library._destroy()


def _replaced() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL", "CPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced
        for name, product in _PRODUCTS.items():
            library.impl(name, product)
    return library


def _mm(left: Tensor, right: Tensor) -> Tensor:
    if not _are_worth_it(left, right):
        return torch.ops.aten.mm(left, right, out=left.new_empty(0))
    return _in_parts(left, right)


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if not _are_worth_it(left, right) or bias.dtype != left.dtype:
        return torch.ops.aten.addmm(bias, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))
    bias = bias.expand(len(left), right.shape[1])
    return _in_parts(left, right, lambda rows, columns: bias[rows, columns].float(), beta, alpha)


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    if not _are_worth_it(left, right):
        return torch.ops.aten.bmm(left, right, out=left.new_empty(0))
    return torch.ops.aten.bmm(left.float(), right.float()).to(left.dtype)


def _baddbmm(sum_: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if not _are_worth_it(left, right) or sum_.dtype != left.dtype:
        return torch.ops.aten.baddbmm(sum_, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))
    return torch.ops.aten.baddbmm(sum_.float(), left.float(), right.float(), beta=beta, alpha=alpha).to(left.dtype)


def _baddbmm_(sum_: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if not _are_worth_it(left, right) or sum_.dtype != left.dtype:
        return torch.ops.aten.baddbmm(sum_, left, right, beta=beta, alpha=alpha, out=sum_)
    return sum_.copy_(_baddbmm(sum_, left, right, beta=beta, alpha=alpha))


_PRODUCTS: dict[str, Callable[..., Tensor]] = {
    "mm": _mm,
    "addmm": _addmm,
    "bmm": _bmm,
    "baddbmm": _baddbmm,
    "baddbmm_": _baddbmm_,
}
"""By their names in ATen, which autograd and ``linear`` come to. Their ``out`` variants stay as they are."""


def _are_worth_it(left: Tensor, right: Tensor) -> bool:
    """Else torch's own kernel takes them, with its checks."""
    if not left.dtype == right.dtype == torch.bfloat16 or left.ndim != right.ndim:
        return False
    return bool(left.shape[-1] == right.shape[-2] and left.shape[-2] > _FEW)


def _in_parts(
    left: Tensor,
    right: Tensor,
    bias: Callable[[slice, slice], Tensor] | None = None,
    beta: float = 1,
    alpha: float = 1,
) -> Tensor:
    """alpha · left @ right + beta · bias, some rows and columns at a time."""
    length = max(1, left.shape[1])
    product = left.new_empty(left.shape[0], right.shape[1])
    for rows in _slices(left.shape[0], PART // length):
        part = left[rows].float()
        for columns in _slices(right.shape[1], PART // length):
            other = right[:, columns].float()
            if bias is None:
                product[rows, columns] = torch.ops.aten.mm(part, other)
            else:
                product[rows, columns] = torch.ops.aten.addmm(bias(rows, columns), part, other, beta=beta, alpha=alpha)
    return product


def _slices(size: int, step: int) -> Iterator[slice]:
    step = max(_FEW + 1, step)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))
