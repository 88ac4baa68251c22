"""One linear layer of the base with its adapter slots, in place of what vLLM's LoRA wrapper does on CPU."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA

from graft.server.engine.lora_cpu.kernel import AddLora, Kernel
from graft.server.engine.lora_cpu.slot_weights import SlotWeights

_Slices: TypeAlias = torch.Tensor | list[torch.Tensor | None]


class SlottedLinear:
    """Takes over a vLLM LoRA layer: its slots, its loading and its forward pass.

    While no adapter of the batch touches the layer it runs the base's own forward pass, so adapters that are loaded
    but not used cost nothing.
    """

    def __init__(self, layer: BaseLinearLayerWithLoRA, kernel: Kernel) -> None:
        self._layer = layer
        # vLLM's own stacks, with B's memory read as [slots, max_rank, out]: no second copy of the slots.
        a = [stack.squeeze(1) for stack in layer.lora_a_stacked]
        b = [stack.view(stack.shape[0], stack.shape[3], stack.shape[2]) for stack in layer.lora_b_stacked]
        self.weights = SlotWeights(a, b)
        add = kernel.bind(self.weights)
        # Some routers' outputs have another type than their inputs: float32 beside bfloat16.
        self._add = add if _output_type(layer) in (None, self.weights.dtype) else _to_any_type(add)
        self._with_adapters = self._forward if layer.tp_size == 1 else layer.forward
        layer.set_lora = self.put
        layer.reset_lora = self.weights.clear
        layer._apply_lora_to_output = self._add_to_part
        self._on = True
        self.switch(False)

    def switch(self, on: bool) -> None:
        """Whether an adapter of the batch touches this layer."""
        if on is not self._on:
            self._on = on
            self._layer.forward = self._with_adapters if on else self._layer.base_layer.forward

    def put(self, slot: int, lora_a: _Slices, lora_b: _Slices) -> None:
        """vLLM's `set_lora`: per slice A [rank, in] and B [out, rank], of the whole layer."""
        layer = self._layer
        num_slices = len(self.weights.a)
        if isinstance(lora_b, list) and len(lora_b) != num_slices:
            lora_a, lora_b = layer.expand_packed_lora(lora_a, lora_b)
        if num_slices == 1 and isinstance(lora_a, list):
            (lora_a,), (lora_b,) = lora_a, lora_b
        if layer.tp_size > 1:
            lora_a, lora_b = layer.slice_lora_a(lora_a), layer.slice_lora_b(lora_b)
        parts = zip(_as_list(lora_a), _as_list(lora_b), strict=True)
        self.weights.put(slot, [None if a is None or b is None else (a, b) for a, b in parts])

    def _forward(self, x: torch.Tensor) -> Any:
        result = self._layer.base_layer.forward(x)
        y = result[0] if isinstance(result, tuple) else result
        if x.dim() == 2:
            self._add(x, y)
        else:
            self._add_to_part(x, y)
        return result

    def _add_to_part(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Under tensor parallelism vLLM's forward pass calls this before it adds up or gathers the parts."""
        self._add(x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1]))
        return y


def _output_type(layer: BaseLinearLayerWithLoRA) -> torch.dtype | None:
    """None where it is the inputs'."""
    found: torch.dtype | None = getattr(layer.base_layer, "out_dtype", None)
    return found


def _to_any_type(add: AddLora) -> AddLora:
    def added(x: torch.Tensor, y: torch.Tensor) -> None:
        update = torch.zeros_like(y, dtype=x.dtype)
        add(x, update)
        y += update

    return added


def _as_list(slices: _Slices) -> list[torch.Tensor | None]:
    return slices if isinstance(slices, list) else [slices]
