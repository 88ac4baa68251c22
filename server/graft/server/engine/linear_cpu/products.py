"""Products of bfloat16 matrices on CPUs that have no instructions for them: by way of float32, rounded once.

oneDNN multiplies them there number by number, up to five times as slow (LOG). Training has the same for all products
and both directions (`graft.training.model.cpu_products`); an engine multiplies activations by weights, forward only.
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

_FEW = 8
"""Rows: a product of so few is bound by reading the weights, which converting them only lengthens."""
_PART = 1 << 21
"""Weights in float32 at a time: 8 MB."""

_library: torch.library.Library | None = None


def multiply_in_float32() -> None:
    """From now on, in this process, where the CPU has no instructions for bfloat16. May run several times."""
    global _library
    if _library is None and not has_instructions():
        _library = replaced()


def leave_out_packing() -> None:
    """Has vLLM multiply plain weights by `linear`, and not by a call of oneDNN's that packs them beforehand, on such a
    CPU: one stream is an eighth slower, 32 are twice as fast, and prompts are read in a third of the time.
    """
    from vllm import _custom_ops

    if not has_instructions():
        _custom_ops._supports_onednn = False


@cache
def has_instructions() -> bool:
    """Whether the CPU multiplies bfloat16 itself. oneDNN's own answer is yes wherever it finds a way."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not is_x86 or bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def replaced() -> torch.library.Library:
    """ATen's products, to which `linear` comes, replaced for as long as what is returned lives."""
    library = torch.library.Library("aten", "IMPL", "CPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced
        library.impl("mm", _mm)
        library.impl("addmm", _addmm)
    return library


def _mm(left: Tensor, right: Tensor) -> Tensor:
    if not _are_worth_it(left, right):
        return torch.ops.aten.mm(left, right, out=left.new_empty(0))
    return _in_parts(left, right, lambda wide, part, columns: torch.ops.aten.mm(wide, part))


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if not _are_worth_it(left, right) or bias.dtype != left.dtype:
        return torch.ops.aten.addmm(bias, left, right, beta=beta, alpha=alpha, out=left.new_empty(0))
    added = bias.expand(len(left), right.shape[1])
    return _in_parts(
        left,
        right,
        lambda wide, part, columns: torch.ops.aten.addmm(added[:, columns].float(), wide, part, beta=beta, alpha=alpha),
    )


def _are_worth_it(left: Tensor, right: Tensor) -> bool:
    """Else torch's own kernel takes them, with its checks."""
    if not left.dtype == right.dtype == torch.bfloat16 or not left.ndim == right.ndim == 2:
        return False
    return bool(left.shape[1] == right.shape[0] and left.shape[0] > _FEW)


def _in_parts(left: Tensor, right: Tensor, product: Callable[[Tensor, Tensor, slice], Tensor]) -> Tensor:
    """Some columns at a time: what is wide of the weights stays in the cache."""
    found, wide = left.new_empty(left.shape[0], right.shape[1]), left.float()
    for columns in _slices(right.shape[1], max(64, _PART // max(1, right.shape[0]))):
        found[:, columns] = product(wide, right[:, columns].float(), columns)
    return found


def _slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))
