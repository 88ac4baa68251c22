"""The fused head on a CUDA device: cross-entropy and gradients as of whole float32 logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from graft.training.objective.head import head_cross_entropy

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("shape", [(96, 64, 512), (4096, 512, 32000)], ids=str)
def test_the_head_is_that_of_whole_logits(shape: tuple[int, int, int]) -> None:
    tokens, width, vocabulary = shape
    torch.manual_seed(0)
    states = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weight = (torch.randn(vocabulary, width, device="cuda") * width**-0.5).bfloat16().requires_grad_()
    labels = torch.randint(vocabulary, (tokens,), device="cuda")
    labels[::7] = -100
    found = head_cross_entropy(states, weight, None, labels)
    found.backward()
    gradients = states.grad, weight.grad
    wide = [one.detach().float().requires_grad_() for one in (states, weight)]
    expected = functional.cross_entropy(functional.linear(*wide), labels, reduction="sum")
    expected.backward()
    assert float(found) == pytest.approx(float(expected), rel=1e-3)
    for one, other in zip(gradients, wide, strict=True):
        assert one is not None and other.grad is not None
        assert float((one.float() - other.grad).norm() / other.grad.norm()) < 0.02
