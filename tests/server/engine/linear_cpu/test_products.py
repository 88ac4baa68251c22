"""Products of bfloat16 in an engine, by way of float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from graft.server.engine.linear_cpu import products

UNIT = 2.0**-8
"""What a value that is rounded once to bfloat16 is off at most, relative to it."""


@pytest.fixture(params=[1 << 21, 1 << 10], ids=["at once", "in parts"])
def replaced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(products, "_PART", request.param)
    library = products.replaced()
    yield
    library._destroy()


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


@pytest.mark.parametrize("bias", [None, numbers(200)])
@pytest.mark.parametrize("rows", [1, 8, 9, 40])
def test_a_layer_rounds_once(rows: int, bias: Tensor | None, replaced: None) -> None:
    x, weight = numbers(rows, 70), numbers(200, 70)
    found = functional.linear(x, weight, bias)
    exact = functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert found.dtype == torch.bfloat16
    # Few rows are oneDNN's, which may round the sum before the bias is added.
    tolerance = UNIT if rows > 8 else 3 * UNIT
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=1e-4 if rows > 8 else 0.05)


def test_other_numbers_and_wrong_shapes_are_torchs(replaced: None) -> None:
    left, right = numbers(20, 30).float(), numbers(30, 40).float()
    assert torch.equal(left @ right, torch.mm(left, right, out=torch.empty(0)))
    with pytest.raises(RuntimeError, match="same dtype"):
        numbers(20, 30) @ right
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        numbers(20, 30) @ numbers(20, 30)
