"""What a fine-tuning is measured against: the arithmetic of a token, and what the devices could do."""

from __future__ import annotations

from torch import nn

from graft.adapters.base.base import Base
from graft.training.loop.progress import Gauge
from graft.training.model.cost.flops import flops_per_token, num_multiplied
from graft.training.model.cost.peaks import peak_of_all
from graft.training.model.structure import empty_decoder


def gauge_of(base: Base, adapted: nn.Module, *, length: float, device: str, num_processes: int) -> Gauge:
    """``length``: tokens of the row that a token stands in, on average."""
    num_trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    peak = peak_of_all(device, num_processes)
    return Gauge(flops_per_token=adapting_flops(base, num_trained=num_trained, length=length), peak=peak)


def adapting_flops(base: Base, *, num_trained: int, length: float) -> float | None:
    """FLOPs of a token, forward and backward. Frozen weights are multiplied by twice, as they have no gradient of their
    own: 4 for each in place of 6 (``model.cost.flops``); 6 for each that is trained.
    """
    skeleton = empty_decoder(base)
    whole = flops_per_token(skeleton, round(length))
    return None if whole is None else whole - 2 * num_multiplied(skeleton) + 6 * num_trained
