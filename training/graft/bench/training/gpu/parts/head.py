"""The output head with its cross-entropy, forward and backward: ours, torch's, and logits as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from graft.bench.training.gpu.teller import Teller
from graft.bench.training.gpu.timing import told_cost
from graft.training.objective.head import head_cross_entropy

_SHAPES = ((8192, 2048, 32000), (8192, 2048, 128256), (8192, 4096, 151936))
"""Asked tokens, width, vocabulary: Llama-2's, Llama-3's, Qwen's."""
_TOY = ((64, 32, 512),)

Head = Callable[[Tensor, Tensor, Tensor], Tensor]
"""States (N, D), weight (V, D) and labels (N) to the summed cross-entropy."""


def measure(teller: Teller) -> None:
    heads = _heads(teller)
    for tokens, width, vocabulary in _TOY if teller.rehearses else _SHAPES:
        torch.manual_seed(0)
        states = torch.randn(tokens, width, device=teller.device, dtype=torch.bfloat16, requires_grad=True)
        weight = torch.randn(vocabulary, width, device=teller.device, dtype=torch.bfloat16).mul_(width**-0.5)
        weight.requires_grad_()
        labels = torch.randint(vocabulary, (tokens,), device=teller.device)
        for name, head in heads.items():
            _measure(teller, f"{name}, {tokens} × {width} → {vocabulary}", head, states, weight, labels)


def _heads(teller: Teller) -> Mapping[str, Head]:
    heads: dict[str, Head] = {
        "ours": lambda states, weight, labels: head_cross_entropy(states, weight, None, labels),
        "whole": lambda states, weight, labels: functional.cross_entropy(
            functional.linear(states, weight).float(), labels, reduction="sum"
        ),
    }
    fused = getattr(functional, "linear_cross_entropy", None)
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if fused is None or options is None:
        teller.lacks("torch.nn.functional.linear_cross_entropy with options (torch 2.13)")
    else:
        in_parts = options()  # without them it computes all logits
        heads["torch's"] = lambda states, weight, labels: fused(
            states, weight, labels, reduction="sum", options=in_parts
        )
    return heads


def _measure(teller: Teller, name: str, head: Head, states: Tensor, weight: Tensor, labels: Tensor) -> None:
    def run() -> None:
        states.grad = weight.grad = None
        head(states, weight, labels).backward()

    if (found := told_cost(teller, name, run)) is not None:
        flops = 6 * states.numel() * weight.shape[0]
        teller.figure(f"{name}: speed", flops / found.seconds / 1e12, "TFLOP/s")
