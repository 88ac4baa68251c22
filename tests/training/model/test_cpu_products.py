"""Products of bfloat16 by way of float32: what instructions for them would give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from graft.training.model import cpu_products
from graft.training.model.cpu_products import multiplying_in_float32

UNIT = 2.0**-8
"""Half of bfloat16's distance from 1 to the next number: a value that is rounded once is no further away."""


@pytest.fixture(params=[1 << 21, 1 << 10], ids=["at once", "in parts"])
def replaced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cpu_products, "PART", request.param)
    with multiplying_in_float32():
        yield


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def assert_rounded_once(found: Tensor, exact: Tensor) -> None:
    """Sums in float32 are off by some of its own units beside."""
    assert found.dtype == torch.bfloat16 and found.shape == exact.shape
    torch.testing.assert_close(found.double(), exact, rtol=UNIT, atol=1e-4)


def test_each_product_is_rounded_once(replaced: None) -> None:
    left, right, bias = numbers(40, 70), numbers(70, 50), numbers(50)
    exact = left.double() @ right.double()
    assert_rounded_once(left @ right, exact)
    assert_rounded_once(numbers(70, 40).T @ numbers(50, 70).T, numbers(70, 40).double().T @ numbers(50, 70).double().T)
    assert_rounded_once(torch.addmm(bias, left, right, beta=2, alpha=0.5), 2 * bias.double() + 0.5 * exact)
    many, others = numbers(3, 40, 70), numbers(3, 70, 50)
    whole = many.double() @ others.double()
    assert_rounded_once(many @ others, whole)
    assert_rounded_once(torch.baddbmm(bias, many, others, alpha=0.5), bias.double() + 0.5 * whole)
    ignored = torch.full((), torch.nan, dtype=torch.bfloat16)
    assert_rounded_once(torch.baddbmm(ignored, many, others, beta=0), whole)
    sums = numbers(3, 40, 50)
    expected = sums.double() + 0.5 * whole
    assert_rounded_once(sums.baddbmm_(many, others, alpha=0.5), expected)
    assert_rounded_once(sums, expected)


def test_gradients_of_a_layer_are_rounded_once(replaced: None) -> None:
    x, weight, bias, above = numbers(4, 20, 70), numbers(50, 70), numbers(50), numbers(4, 20, 50)
    learned = [one.requires_grad_() for one in (x, weight, bias)]
    y = functional.linear(*learned)
    found = torch.autograd.grad(y, learned, above)
    exact = functional.linear(x.double(), weight.double(), bias.double())
    assert_rounded_once(y, exact)
    assert_rounded_once(found[0], above.double() @ weight.double())
    assert_rounded_once(found[1], above.double().flatten(0, 1).T @ x.double().flatten(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.complex64])
def test_other_numbers_are_multiplied_as_before(dtype: torch.dtype) -> None:
    left, right = ((10 * numbers(20, 30)).to(dtype), (10 * numbers(30, 20)).to(dtype))
    expected = [left @ right, torch.stack([left] * 2) @ torch.stack([right] * 2), torch.addmm(right[:20], left, right)]
    with multiplying_in_float32():
        found = [left @ right, torch.stack([left] * 2) @ torch.stack([right] * 2), torch.addmm(right[:20], left, right)]
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_what_cannot_be_multiplied_is_refused_as_before(replaced: None) -> None:
    with pytest.raises(RuntimeError, match="same dtype"):
        numbers(20, 30) @ numbers(30, 20).float()
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        numbers(20, 30) @ numbers(20, 30)
    assert (numbers(20, 0) @ numbers(0, 30)).abs().sum() == 0
    assert (numbers(0, 30) @ numbers(30, 20)).shape == (0, 20)


def test_it_ends_with_the_block() -> None:
    before = numbers(40, 70) @ numbers(70, 50)
    with multiplying_in_float32():
        pass
    assert torch.equal(numbers(40, 70) @ numbers(70, 50), before)
