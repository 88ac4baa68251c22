"""y += (x A^T) B^T in torch, one pair of products per adapter in the batch: the way without a compiler.

Stock vLLM gathers a copy of A and B for every token and selects slot -1, that is *the last adapter*, for rows of the
base. Here rows are grouped by adapter (Punica's segmented gather, arXiv:2310.18547) and rows of the base stay as
they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from graft.server.engine.lora_cpu.kernel import AddLora
from graft.server.engine.lora_cpu.segments import Segments
from graft.server.engine.lora_cpu.slot_weights import SlotWeights


class GroupedKernel:
    """Grouped products with torch's own matrix multiplication."""

    name = "torch"

    def __init__(self) -> None:
        self._segments: list[tuple[int, torch.Tensor | slice]] = []
        self._num_rows = 0

    def begin_step(self, segments: Segments) -> None:
        """Take the rows of the step that follows."""
        bounds = zip(segments.slots, segments.starts[:-1], segments.starts[1:], strict=True)
        self._segments = [(int(slot), _compact(segments.rows[begin:end])) for slot, begin, end in bounds]
        self._num_rows = segments.num_rows

    def bind(self, weights: SlotWeights) -> AddLora:
        """The update for one module."""

        def add(x_RI: torch.Tensor, y_RO: torch.Tensor) -> None:
            if x_RI.shape[0] < self._num_rows:
                raise RuntimeError(f"a batch of {x_RI.shape[0]} rows for a step of {self._num_rows}")
            for slot, rows in self._segments:
                start = 0
                x_SI = x_RI[rows]
                for a, b, rank, out in zip(weights.a, weights.b, weights.ranks[:, slot], weights.outs, strict=True):
                    if rank:
                        h_SK = x_SI @ a[slot, :rank].t()
                        y_RO[rows, start : start + out] += h_SK @ b[slot, :rank]
                    start += out

        return add


def _compact(rows: npt.NDArray[np.int32]) -> torch.Tensor | slice:
    """A slice where rows lie side by side (a view, no copy), else an index tensor."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return slice(first, last + 1)
    return torch.from_numpy(rows).long()
