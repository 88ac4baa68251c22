"""What computes the adapters' updates on CPU: a compiled kernel, or torch where there is no compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch

from graft.server.engine.lora_cpu.segments import Segments
from graft.server.engine.lora_cpu.slot_weights import SlotWeights

AddLora: TypeAlias = Callable[[torch.Tensor, torch.Tensor], None]
"""Adds to y [rows, out], in place, what the step's adapters make of x [rows, in]."""


class Kernel(Protocol):
    """Multi-LoRA products. `name` says what they are made of."""

    @property
    def name(self) -> str: ...

    def begin_step(self, segments: Segments) -> None:
        """Take the rows of the step that follows; every bound module uses them."""
        ...

    def bind(self, weights: SlotWeights) -> AddLora:
        """The update for one module, whose slots may be filled and emptied later."""
        ...
