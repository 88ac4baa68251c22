"""A layer with several adapters beside the same written slowly, whose gradients are autograd's, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graft.training.adapt.beside.frozen import Frozen
from graft.training.adapt.beside.product import with_adapters
from graft.training.adapt.beside.segments import Segment, stacks

WIDTH, OUTPUTS = 10, 7
GROUPS = {
    "distinct": [(1, 2), (3, 4), (5, 1), (2, 8)],
    "uniform": [(4, 3)] * 4,
    "identical": [(9, 3)],
    "skewed": [(20, 2), (1, 2), (1, 2), (1, 4)],
    "none": [],
}
"""Tokens and rank of each adapter."""


def slowly(x_TK: Tensor, layer: nn.Linear, segments: list[Segment], a_RK: list[Tensor], b_NR: list[Tensor]) -> Tensor:
    output_TN = layer(x_TK).clone()
    for one, a, b in zip(segments, a_RK, b_NR, strict=True):
        for token in range(one.start, one.end):
            x_K = x_TK[token] if one.dropped_TK is None else x_TK[token] * one.dropped_TK[token - one.start]
            output_TN[token] = output_TN[token] + one.scale * (b @ (a @ x_K))
    return output_TN


@pytest.mark.parametrize("groups", [name for name in GROUPS if name != "none"])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("gap", [0, 2])
@pytest.mark.parametrize("is_frozen", [False, True])
def test_forward_and_backward(groups: str, dropout: bool, gap: int, is_frozen: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    segments, start = [], 0
    for number, (num_tokens, rank) in enumerate(GROUPS[groups]):
        kept = torch.rand(num_tokens, WIDTH, dtype=torch.float64, generator=generator).round() * 2
        segments.append(
            Segment(
                start=start,
                num_tokens=num_tokens,
                rank=rank,
                scale=0.5 + number % 3,
                dropped_TK=kept if dropout and number % 2 else None,
            )
        )
        start += num_tokens + gap

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    x_TK = drawn(start + 1, WIDTH)
    a_RK, b_NR = [drawn(one.rank, WIDTH) for one in segments], [drawn(OUTPUTS, one.rank) for one in segments]
    factor = torch.randn(start + 1, OUTPUTS, dtype=torch.float64, generator=generator)
    layer = nn.Linear(WIDTH, OUTPUTS, dtype=torch.float64).requires_grad_(False)
    nn.init.normal_(layer.weight, generator=generator)

    def at_once(x_TK: Tensor, layer: nn.Linear, *rest: Any) -> Tensor:
        frozen = Frozen.of(layer, x_TK)
        assert frozen is not None
        return with_adapters(x_TK, frozen if is_frozen else layer(x_TK), *rest)

    outputs, gradients = [], []
    for compute in (at_once, slowly):
        output = compute(x_TK, layer, segments, a_RK, b_NR)
        outputs.append(output.detach())
        gradients.append(torch.autograd.grad((output * factor).sum(), [x_TK, *a_RK, *b_NR]))
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)


def test_equals_side_by_side_are_one_product() -> None:
    shapes = [(4, 2), (4, 2), (4, 8), (5, 8), (5, 8), (5, 8)]
    segments, start = [], 0
    for num_tokens, rank in shapes:
        segments.append(Segment(start=start, num_tokens=num_tokens, rank=rank, scale=1.0))
        start += num_tokens
    assert [(one.first, len(one.segments)) for one in stacks(segments)] == [(0, 2), (2, 1), (3, 3)]
    apart = [segments[0], Segment(start=9, num_tokens=4, rank=2, scale=1.0)]
    assert len(stacks(apart)) == 2, "there are tokens of nobody in between"
