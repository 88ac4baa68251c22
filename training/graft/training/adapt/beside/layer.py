"""The layers of a model that trains one LoRA adapter, computed with it at once (``with_adapters``)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from graft.training.adapt.beside.frozen import Frozen
from graft.training.adapt.beside.product import with_adapters
from graft.training.adapt.beside.segments import Segment

ADAPTER = "default"
"""The name by which peft knows the adapter that is trained."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """What stands beside a layer."""

    a_RK: Tensor
    b_NR: Tensor
    scale: float
    dropout: float

    @classmethod
    def of(cls, layer: LoraLayer) -> Self:
        dropout = layer.lora_dropout[ADAPTER]
        return cls(
            a_RK=layer.lora_A[ADAPTER].weight,
            b_NR=layer.lora_B[ADAPTER].weight,
            scale=layer.scaling[ADAPTER],
            dropout=dropout.p if isinstance(dropout, nn.Dropout) else 0.0,
        )

    def segment(self, x_TK: Tensor, start: int, num_tokens: int, generator: torch.Generator | None) -> Segment:
        """Of tokens of ``x_TK`` while it learns; ``generator`` is what dropout draws from, if not torch's own."""
        dropped = None
        if self.dropout:
            kept = x_TK.new_empty(num_tokens, x_TK.shape[1])
            dropped = kept.bernoulli_(1 - self.dropout, generator=generator).div_(1 - self.dropout)
        return Segment(start=start, num_tokens=num_tokens, rank=len(self.a_RK), scale=self.scale, dropped_TK=dropped)


def compute_at_once(model: nn.Module) -> None:
    """From now on the layers of ``model`` with a plain LoRA adapter compute so, wherever they can."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and is_plain(layer):
            layer.forward = functools.partial(_forward, layer, layer.forward)


def is_plain(layer: LoraLayer) -> bool:
    """Whether it is a linear layer with two matrices beside it and nothing else."""
    if set(layer.lora_A) != {ADAPTER} or layer.lora_variant or getattr(layer, "fan_in_fan_out", False):
        return False
    pair = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    return all(type(one) is nn.Linear and one.bias is None for one in pair)


def _forward(layer: LoraLayer, plainly: Callable[..., Tensor], x: Tensor, *given: Any, **options: Any) -> Tensor:
    """Shapes: (…, T, K) to (…, T, N)."""
    if given or options or layer.disable_adapters or layer.merged or layer.active_adapters != [ADAPTER]:
        return plainly(x, *given, **options)
    adapter, x_TK = Adapter.of(layer), x.flatten(0, -2)
    is_ours = type(adapter.a_RK) is nn.Parameter and adapter.a_RK.dtype == x.dtype and layer.training
    if not is_ours or torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
        return plainly(x)
    base: Any = layer.base_layer
    frozen = Frozen.of(base, x)
    segment = adapter.segment(x_TK, 0, len(x_TK), None)
    given_TN = base(x).flatten(0, -2) if frozen is None else frozen
    return with_adapters(x_TK, given_TN, [segment], [adapter.a_RK], [adapter.b_NR]).unflatten(0, x.shape[:-1])
