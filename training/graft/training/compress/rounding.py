"""Weights as small integers with one scale per group of inputs: w ≈ scale · code, symmetric around zero.

Shapes: O outputs, I inputs, G groups of I / G inputs each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_SHRINKS = tuple(1 - step / 50 for step in range(18))


@dataclass(frozen=True, kw_only=True)
class IntegerWeight:
    """Codes of ``bits`` bits; scales are bfloat16 numbers, as they are stored."""

    codes_OI: Tensor
    scales_OG: Tensor
    bits: int

    @property
    def group_size(self) -> int:
        return int(self.codes_OI.shape[1] // self.scales_OG.shape[1])

    def to(self, device: torch.device) -> IntegerWeight:
        return replace(self, codes_OI=self.codes_OI.to(device), scales_OG=self.scales_OG.to(device))

    def restored(self) -> Tensor:
        """The float32 weight that the integers stand for."""
        return self.codes_OI * self.scales_OG.float().repeat_interleave(self.group_size, dim=1)


def round_to_nearest(weight_OI: Tensor, *, bits: int, group_size: int | None = None) -> IntegerWeight:
    """Every weight by itself; ``group_size`` defaults to one scale per output channel."""
    scales_OG = largest_scales(weight_OI, bits=bits, group_size=group_size or weight_OI.shape[1])
    return IntegerWeight(
        codes_OI=codes(weight_OI.float(), spread(scales_OG, weight_OI), bits), scales_OG=scales_OG, bits=bits
    )


def codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Nearest codes as int8; ``scale`` broadcasts to the weight."""
    limit = 2 ** (bits - 1)
    return (weight / scale.float()).round().clamp(-limit, limit - 1).to(torch.int8)


def spread(scales_OG: Tensor, weight_OI: Tensor) -> Tensor:
    """One scale per weight, float32."""
    return scales_OG.float().repeat_interleave(weight_OI.shape[1] // scales_OG.shape[1], dim=1)


def largest_scales(weight_OI: Tensor, *, bits: int, group_size: int) -> Tensor:
    """Scales by which the largest magnitude of each group is the largest code."""
    return _stored(_grouped(weight_OI.float(), group_size).abs().amax(-1) / (2 ** (bits - 1) - 0.5))


def best_scales(weight_OI: Tensor, importance_I: Tensor, *, bits: int, group_size: int) -> Tensor:
    """From the largest scales down to two thirds, those of least squared error, weighted by ``importance_I``."""
    weight_OGS = _grouped(weight_OI.float(), group_size)
    importance_GS = importance_I.float().reshape(-1, group_size)
    full_OG = largest_scales(weight_OI, bits=bits, group_size=group_size)
    best_OG, least_OG = full_OG, torch.full_like(full_OG, torch.inf, dtype=torch.float32)
    for shrink in _SHRINKS:
        scale_OG = _stored(full_OG.float() * shrink)
        restored_OGS = codes(weight_OGS, scale_OG[..., None], bits) * scale_OG[..., None].float()
        error_OG = ((weight_OGS - restored_OGS).square() * importance_GS).sum(-1)
        best_OG = torch.where(error_OG < least_OG, scale_OG, best_OG)
        least_OG = torch.minimum(error_OG, least_OG)
    return best_OG


def _grouped(weight_OI: Tensor, group_size: int) -> Tensor:
    return weight_OI.reshape(weight_OI.shape[0], -1, group_size)


def _stored(scales: Tensor) -> Tensor:
    # A group of zeros keeps codes of zero under any scale but zero.
    return scales.masked_fill(scales == 0, 1.0).to(torch.bfloat16)
