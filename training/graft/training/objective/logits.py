"""An output head's logits in float32, of a few rows at a time. Legend: N rows, D width, V entries of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

CPU_ELEMENTS = 1 << 22
"""Logits at a time on a CPU: 16 MB of float32, which stay in its caches."""
GPU_ELEMENTS = 1 << 28
"""Logits at a time on a GPU: 1 GiB of float32, and as much again for their logarithms."""
GPU_ROWS = 2048
"""But so many rows at least, whatever the vocabulary. Each part reads the weights twice, and reads and writes their
float32 gradient: 12 VD bytes for 6 VD operations a row. The product that moves most (8 VD bytes, 2 VD operations a row)
keeps pace with the memory from 4 × peak / bandwidth rows on: 1,180 on an H100 (989 TFLOP/s, 3.35 TB/s), 624 on an A100,
1,125 on a B200."""


def rows_at_once(device: torch.device, vocabulary: int) -> int:
    """How many tokens' logits are there at a time."""
    if device.type == "cuda":
        return max(GPU_ROWS, GPU_ELEMENTS // vocabulary // 256 * 256)  # whole tiles of a product
    return max(1, CPU_ELEMENTS // vocabulary)


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Those of one part after the other, each in the place of the one before."""

    weight_VD: Tensor
    bias_V: Tensor | None
    room_NV: Tensor
    """Float32. Fresh memory costs more on a CPU than what is computed in it: one place serves for all parts."""

    @classmethod
    def of(cls, states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor | None, rows: int) -> Logits:
        """``rows`` at most at a time."""
        room_NV = states_ND.new_empty(rows, len(weight_VD), dtype=torch.float32)
        return cls(weight_VD=weight_VD, bias_V=bias_V, room_NV=room_NV)

    def __call__(self, states_ND: Tensor) -> Tensor:
        """On a GPU the product itself writes float32; a CPU's has none that does, and rounds to the states' type."""
        room_NV = self.room_NV[: len(states_ND)]
        if not states_ND.is_cuda:
            return room_NV.copy_(nn.functional.linear(states_ND, self.weight_VD, self.bias_V))
        if states_ND.dtype == torch.float32:
            torch.mm(states_ND, self.weight_VD.T, out=room_NV)
        else:
            torch.mm(states_ND, self.weight_VD.T, out_dtype=torch.float32, out=room_NV)
        return room_NV if self.bias_V is None else room_NV.add_(self.bias_V)


def add_product(sum_VD: Tensor, left_VN: Tensor, right_ND: Tensor) -> None:
    """``sum += left @ right`` in float32. On a GPU the product adds to it, without a second matrix of that size."""
    if sum_VD.is_cuda and left_VN.dtype in (torch.bfloat16, torch.float16):
        torch.addmm(sum_VD, left_VN, right_ND, out_dtype=torch.float32, out=sum_VD)
    else:
        sum_VD += left_VN @ right_ND
