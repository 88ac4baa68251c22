"""A head whose vocabulary two processes share is the head that one has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from graft.training.batch.packing import IGNORED
from graft.training.objective import logits as of_logits
from graft.training.objective.head import head_cross_entropy
from graft.training.objective.sharded_head import SplitSoftmax
from tests.training.parallel.threads import in_threads

ROWS, WIDTH, VOCABULARY, SHARE = 64, 32, 121, 61
"""The second process has 60 entries."""


def drawn(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States, weight, bias and labels."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(ROWS, WIDTH, generator=generator).to(dtype)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).to(dtype)
    bias = torch.randn(VOCABULARY, generator=generator).to(dtype)
    labels = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    labels[::5] = IGNORED
    return states, weight, bias, labels


def learned(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, **options: Any) -> list[Tensor]:
    """The loss and all gradients, and the loss where nothing is learned."""
    leaves = [one.detach().clone().requires_grad_() for one in (states, weight, bias)]
    loss = head_cross_entropy(*leaves, labels, **options)
    with torch.no_grad():
        measured = head_cross_entropy(*leaves, labels, **options | {"z": 0.0})
    return [measured, loss.detach(), *torch.autograd.grad(loss, leaves)]


def split(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, z: float) -> list[Tensor]:
    """The same of two processes: gradients of states are summed, those of weights lie side by side."""

    def work(rank: int) -> list[Tensor]:
        first = rank * SHARE
        own = slice(first, first + SHARE)
        softmax = SplitSoftmax(first=first, group=dist.distributed_c10d._get_default_group())
        return learned(states, weight[own], bias[own], labels, z=z, softmax=softmax, num_entries=SHARE)

    one, other = in_threads(2, work)
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    gathered = [torch.cat(both) for both in zip(one[3:], other[3:], strict=True)]
    return [one[0], one[1], one[2] + other[2], *gathered]


def exact(states: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, z: float) -> list[Tensor]:
    """The same of whole logits in float64."""
    leaves = [one.detach().double().requires_grad_() for one in (states, weight, bias)]
    asked = labels != IGNORED
    logits = functional.linear(*leaves)[asked]
    plain = functional.cross_entropy(logits, labels[asked], reduction="sum")
    loss = plain + z * logits.logsumexp(-1).square().sum()
    return [plain.detach(), loss.detach(), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("z", [0.0, 0.01])
@pytest.mark.parametrize("elements", [240, 1 << 22])
def test_value_and_gradients_are_those_of_whole_logits(
    z: float, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 240 logits at a time 60 entries would leave room for four rows and 61 for three: all must take as many."""
    monkeypatch.setattr(of_logits, "CPU_ELEMENTS", elements)
    given = drawn(torch.float32)
    for one, other in zip(split(*given, z), exact(*given, z), strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("z", [0.0, 0.01])
def test_in_bfloat16_it_is_as_exact_as_a_whole_one(z: float) -> None:
    given = drawn(torch.bfloat16)
    whole, parts, expected = learned(*given, z=z), split(*given, z), exact(*given, z)
    for one, other, true in zip(parts, whole, expected, strict=True):
        assert (one.double() - true).norm() <= 1.2 * (other.double() - true).norm() + 1e-6 * true.norm()


class OnGpu(Tensor):
    """Computes on the CPU, and says that it lies on a GPU."""

    is_cuda = True  # type: ignore[assignment]


@pytest.mark.parametrize("z", [0.0, 0.01])
@pytest.mark.parametrize("how", [learned, split])
def test_on_a_gpu_logits_are_float32(how: Any, z: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written so by the product itself. Rounded to bfloat16 they would be off by a thousandth."""
    monkeypatch.setattr(torch, "mm", _wide_product)
    monkeypatch.setattr(torch, "addmm", _wide_sum)
    given = drawn(torch.bfloat16)
    states, weight, bias = (one.as_subclass(OnGpu) for one in given[:3])  # type: ignore[attr-defined]
    found = how(states, weight, bias, given[3], z=z)
    for one, true in zip(found[:2], exact(*given, z)[:2], strict=True):
        torch.testing.assert_close(one.as_subclass(Tensor).double(), true, rtol=1e-6, atol=0)


def _wide_product(left: Tensor, right: Tensor, *, out: Tensor, out_dtype: torch.dtype) -> Tensor:
    assert out_dtype == out.dtype == torch.float32
    return out.copy_(left.float() @ right.float())


def _wide_sum(total: Tensor, left: Tensor, right: Tensor, *, out: Tensor, out_dtype: torch.dtype) -> Tensor:
    assert out is total and out_dtype == out.dtype == torch.float32
    return out.add_(left.float() @ right.float())
