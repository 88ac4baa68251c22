"""Frozen 8-bit weights find the gradient of their input without having kept it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from graft.training.model.quantized import THRESHOLD, bitsandbytes_functional
from tests.training.pretrain.storages import Storages


def product(name: str, x: Tensor, weight_OI: Tensor) -> Tensor:
    functional, functions = bitsandbytes_functional(), importlib.import_module("bitsandbytes.autograd._functions")
    codes, scales, _ = functional.int8_vectorwise_quant(weight_OI.half())
    state: Any = functions.MatmulLtState()
    state.CB, state.SCB, state.has_fp16_weights, state.threshold = codes, scales, False, THRESHOLD
    found: Tensor = getattr(functions, name).apply(x, codes, None, None, state)
    return found


@pytest.mark.parametrize("name", ["MatMul8bitLt", "MatMul8bitFp"])
def test_the_gradient_is_right_and_the_input_is_gone(name: str) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(48, 64), torch.randn(2, 256, 64, dtype=torch.bfloat16, requires_grad=True)
    towards = torch.randn(2, 256, 48, dtype=torch.bfloat16)
    (expected,) = torch.autograd.grad(x.float() @ weight.T, x, towards.float())
    with Storages() as storages:
        before = x.exp().log()  # another storage
        size = before.nbytes
        output = product(name, before, weight)
        held = storages.now
        del before
        assert storages.now == held - size
    (found,) = torch.autograd.grad(output, x, towards)
    assert (found - expected).norm() < 0.03 * expected.norm()
