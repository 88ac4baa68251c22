"""Attention within documents beside one document after the other, each with its mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graft.training.model.attention import by_length
from graft.training.model.attention.varlen_kernels import Pieces, alike_at_once, reference

SIZES = (5, 17, 8, 1, 40, 16, 8)


def drawn(num_heads: int, num_shared: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(SIZES), heads, 8) for heads in (num_heads, num_shared, num_shared)]
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("num_shared", [4, 2])
@pytest.mark.parametrize("window", [None, 6, 16])
def test_forward_and_backward(num_shared: int, window: int | None) -> None:
    states = drawn(4, num_shared)
    offsets = torch.tensor([0, *SIZES]).cumsum(0).int()
    pieces = Pieces(query_offsets=offsets, key_offsets=offsets, max_query=40, max_key=40)
    factor = torch.randn(sum(SIZES), 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    outputs, gradients = [], []
    for kernel in (alike_at_once, reference):
        output = kernel(*states, pieces, scale=0.3, window=window)
        outputs.append(output.detach())
        gradients.append(torch.autograd.grad((output * factor).sum(), states))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_bfloat16_is_rounded_once_at_the_end() -> None:
    query, key, value = (one.detach().bfloat16() for one in drawn(4, 4))
    found = by_length.attention(query, key, value, SIZES, scale=0.3, window=None)
    exact = by_length.attention(query.double(), key.double(), value.double(), SIZES, scale=0.3, window=None)
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).abs().max() <= 2**-8 * exact.abs().max()


def test_documents_of_one_length_are_one_call() -> None:
    own = by_length.ByLength.of(SIZES)
    assert own.num_of_length == ((8, 4), (16, 1), (24, 1), (40, 1))
    assert own.place_T.unique().numel() == sum(SIZES) <= own.num_places == 112
