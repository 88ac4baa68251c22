"""The frozen matrix of a layer, as a product with it reads it on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from graft.training.model.cpu_products import PART, has_instructions
from graft.training.model.quantized import bitsandbytes_functional


def computing(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The numbers that products are computed in: float32 where the processor has no instructions for bfloat16."""
    is_slow = dtype == torch.bfloat16 and device.type == "cpu" and not has_instructions()
    return torch.float32 if is_slow else dtype


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A matrix of N outputs and K inputs in 16 or 32 bits, or in NF4."""

    layer: nn.Module
    is_quantized: bool

    @classmethod
    def of(cls, layer: nn.Module, x: Tensor) -> Self | None:
        """None where products with ``x`` are the layer's own affair: on other devices, of other kinds of layers, and of
        weights that are no plain tensors, as those that are spread over processes.
        """
        weight: Any = getattr(layer, "weight", None)
        if x.device.type != "cpu" or weight is None or weight.requires_grad:
            return None
        if type(layer) is nn.Linear and type(weight) is nn.Parameter and weight.dtype == x.dtype:
            return cls(layer=layer, is_quantized=False)
        state = getattr(weight, "quant_state", None)
        if type(layer).__name__ != "Linear4bit" or state is None or getattr(state, "packing_format_for_cpu", False):
            return None
        is_plain = weight.dtype == torch.uint8 and state.dtype == x.dtype == layer.compute_dtype
        return cls(layer=layer, is_quantized=True) if is_plain and len(state.shape) == 2 else None

    @property
    def num_outputs(self) -> int:
        return int(self.layer.out_features)

    @property
    def bias_N(self) -> Tensor | None:
        found: Tensor | None = self.layer.bias
        return found

    def parts(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Some outputs after the others, in a type, so that little of it is there at once. Shapes: (n, K)."""
        weight_NK = self._weight()
        step = max(64, PART // weight_NK.shape[1]) if weight_NK.dtype != dtype else len(weight_NK)
        for start in range(0, len(weight_NK), step):
            own = slice(start, min(start + step, len(weight_NK)))
            yield own, weight_NK[own].to(dtype)

    def _weight(self) -> Tensor:
        weight: Any = self.layer.weight
        if not self.is_quantized:
            plain: Tensor = weight.detach()
            return plain
        found: Tensor = bitsandbytes_functional().dequantize_4bit(weight.data.view(-1, 1), weight.quant_state)
        return found
