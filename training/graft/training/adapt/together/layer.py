"""A linear layer with the adapters of several trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from graft.training.adapt.together.grouped import Segment, added

ADAPTER = "default"
"""The name by which peft knows the adapter that is trained."""


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
        self._adapters = [(number, _Adapter.of(layer)) for number, layer in adapters.items()]
        self._by_member = dict(self._adapters)
        self._present = present

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (…, T, K) to (…, T, N)."""
        result: Tensor = self.base_layer(x)
        there = [span for span in self._present.spans if span.member in self._by_member]
        if not there:
            return result
        x_TK = x.flatten(0, -2)
        own = [self._by_member[span.member] for span in there]
        x_TK = x_TK.to(own[0].a_RK.dtype)
        segments = [self._segment(span, adapter, x_TK) for span, adapter in zip(there, own, strict=True)]
        found_TN = added(x_TK, segments, [one.a_RK for one in own], [one.b_NR for one in own])
        return result + found_TN.to(result.dtype).view(result.shape)

    def _segment(self, span: Span, adapter: _Adapter, x_TK: Tensor) -> Segment:
        dropped = None
        if adapter.dropout and self.training:
            kept = x_TK.new_empty(span.num_tokens, x_TK.shape[1])
            kept.bernoulli_(1 - adapter.dropout, generator=self._present.generators[span.member])
            dropped = kept.div_(1 - adapter.dropout)
        return Segment(
            start=span.start,
            num_tokens=span.num_tokens,
            rank=len(adapter.a_RK),
            scale=adapter.scale,
            dropped_TK=dropped,
        )


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    a_RK: Tensor
    b_NR: Tensor
    scale: float
    dropout: float

    @classmethod
    def of(cls, layer: LoraLayer) -> _Adapter:
        dropout = layer.lora_dropout[ADAPTER]
        return cls(
            a_RK=layer.lora_A[ADAPTER].weight,
            b_NR=layer.lora_B[ADAPTER].weight,
            scale=layer.scaling[ADAPTER],
            dropout=dropout.p if isinstance(dropout, nn.Dropout) else 0.0,
        )
