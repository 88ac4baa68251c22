"""y += (x A^T) B^T, one matrix product pair per adapter in the batch.

Stock vLLM gathers a copy of A and B for every token and selects slot -1, that is *the last adapter*, for rows of the
base. Here rows are grouped by adapter (Punica's segmented gather, arXiv:2310.18547) and rows of the base stay as
they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graft.server.engine.lora_cpu.segments import Segment


def add_lora(
    y_RO: torch.Tensor,
    x_RI: torch.Tensor,
    a_stacked: Sequence[torch.Tensor],
    b_stacked: Sequence[torch.Tensor],
    scale: float,
    output_slices: Sequence[int],
    segments: Sequence[Segment],
) -> None:
    """Add each segment's low-rank update to `y_RO` in place.

    Shapes: y [rows, sum(output_slices)]; x [rows, in]; per slice, A [slots, 1, r, in] and B [slots, 1, out, r].
    The update, and the product x A^T within it, are computed in A's dtype.
    """
    for segment in segments:
        x_SI = x_RI[segment.rows]
        start = 0
        for a, b, width in zip(a_stacked, b_stacked, output_slices, strict=True):
            update_SO = _update(x_SI, a[segment.slot, 0], b[segment.slot, 0], scale)
            y_RO[segment.rows, start : start + width] += update_SO.to(y_RO.dtype)
            start += width


def add_expand(y_RO: torch.Tensor, h_RK: torch.Tensor, b: torch.Tensor, segments: Sequence[Segment]) -> None:
    """The embedding's update: y += h B^T, with h [rows, r] already looked up in A, and B [slots, 1, out, r]."""
    for segment in segments:
        h_SK = h_RK[segment.rows]
        y_RO[segment.rows] += (h_SK.to(b.dtype) @ b[segment.slot, 0].t()).to(y_RO.dtype)


def _update(x_SI: torch.Tensor, a_KI: torch.Tensor, b_OK: torch.Tensor, scale: float) -> torch.Tensor:
    h_SK = x_SI.to(a_KI.dtype) @ a_KI.t()
    return (h_SK @ b_OK.t()).mul_(scale)
