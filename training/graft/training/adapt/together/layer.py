"""A linear layer with the adapters of several trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from graft.training.adapt.beside.frozen import Frozen
from graft.training.adapt.beside.layer import Adapter
from graft.training.adapt.beside.product import with_adapters


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where a member's tokens stand."""

    member: int
    start: int
    num_tokens: int


@dataclass(kw_only=True)
class Present:
    """Whose tokens a call holds: the layers of a model look here."""

    spans: Sequence[Span] = ()
    generators: Mapping[int, torch.Generator] = field(default_factory=dict)
    """Each member's random numbers, for its dropout."""


class SharedLinear(nn.Module):
    """The frozen layer once for all tokens, and to each what its adapter adds."""

    def __init__(self, base_layer: nn.Module, adapters: Mapping[int, LoraLayer], present: Present) -> None:
        """``adapters``: by member. A member that adapts other layers has none here."""
        super().__init__()
        self.base_layer = base_layer
        # No submodules: they belong to their members' models.
        self._adapters = [(number, Adapter.of(layer)) for number, layer in adapters.items()]
        self._by_member = dict(self._adapters)
        self._present = present

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (…, T, K) to (…, T, N)."""
        there = [span for span in self._present.spans if span.member in self._by_member]
        if not there:
            found: Tensor = self.base_layer(x)
            return found
        x_TK, own = x.flatten(0, -2), [self._by_member[span.member] for span in there]
        generators = self._present.generators
        segments = [
            one.segment(x_TK, span.start, span.num_tokens, generators.get(span.member))
            for span, one in zip(there, own, strict=True)
        ]
        frozen = Frozen.of(self.base_layer, x)
        base = self.base_layer(x).flatten(0, -2) if frozen is None else frozen
        found_TN = with_adapters(x_TK, base, segments, [one.a_RK for one in own], [one.b_NR for one in own])
        return found_TN.unflatten(0, x.shape[:-1])
