"""Attention over packed rows, forward and backward: a mask of all pairs beside a kernel that goes by offsets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from graft.bench.training.gpu.teller import Teller
from graft.bench.training.gpu.timing import told_cost
from graft.training.model.attention.varlen_kernels import Kernel, Pieces, kernel_for, reference

_HEADS, _KEY_HEADS, _WIDTH = 32, 8, 64
_SHAPES = ((4, 4096), (1, 16384))
"""Rows and their length: as many tokens each."""
_TOY = ((2, 64),)
_Inputs = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values."""
_DOCUMENTS = 8
"""In a row, of one length."""


def measure(teller: Teller) -> None:
    kernel = kernel_for(teller.device.type)
    if kernel is None:
        teller.lacks("a kernel over offsets (torch.nn.attention.varlen with windows, or flash-attn)")
    for rows, length in _TOY if teller.rehearses else _SHAPES:
        name = f"{rows} rows of {length} tokens, {_DOCUMENTS} documents each"
        inputs, pieces = _made(teller.device, rows, length)
        mask = pieces.mask(rows=rows, length=length, window=None)
        _measure(teller, f"mask, {name}", partial(_masked, *inputs, mask), inputs)
        if chosen := kernel or (reference if teller.rehearses else None):
            _measure(teller, f"offsets, {name}", partial(_by_offsets, chosen, *inputs, pieces), inputs)


def _made(device: torch.device, rows: int, length: int) -> tuple[_Inputs, Pieces]:
    """Queries, keys and values (B, L, H, D), and where documents of one length begin."""
    torch.manual_seed(0)
    query, key, value = (
        torch.randn(rows, length, heads, _WIDTH, device=device, dtype=torch.bfloat16, requires_grad=True)
        for heads in (_HEADS, _KEY_HEADS, _KEY_HEADS)
    )
    size = length // _DOCUMENTS
    offsets = torch.arange(0, rows * length + 1, size, dtype=torch.int32, device=device)
    return (query, key, value), Pieces(query_offsets=offsets, key_offsets=offsets, max_query=size, max_key=size)


def _by_offsets(kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, pieces: Pieces) -> Tensor:
    query_THD, key_SGD, value_SGD = (one.flatten(0, 1) for one in (query, key, value))
    return kernel(query_THD, key_SGD, value_SGD, pieces, scale=_WIDTH**-0.5, window=None)


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """As Hugging Face's models do: with a mask and ``enable_gqa`` torch would take its slow kernel."""
    query, key, value = (one.transpose(1, 2) for one in (query, key, value))
    key, value = (one.repeat_interleave(_HEADS // _KEY_HEADS, dim=1) for one in (key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _measure(teller: Teller, name: str, attend: Callable[[], Tensor], inputs: _Inputs) -> None:
    def run() -> None:
        for one in inputs:
            one.grad = None
        attend().float().sum().backward()

    told_cost(teller, name, run)
