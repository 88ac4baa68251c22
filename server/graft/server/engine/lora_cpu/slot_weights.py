"""The weights of every adapter slot for one LoRA-wrapped module, in the layout that the kernels read."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class SlotWeights:
    """Low-rank weights for the slices of one module (q, k, v; gate, up; or a single one), for all slots.

    Per slice, `a` is [slots, max_rank, in] and `b` is B transposed, [slots, max_rank, out]; `ranks` is
    [slices, slots] (int32). Of a slot only the first `rank` rows count: its true rank, 0 where the adapter leaves
    the slice alone.
    """

    def __init__(self, a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> None:
        self.a = tuple(a)
        self.b = tuple(b)
        self.outs = tuple(each.shape[2] for each in b)
        self.ranks = torch.zeros(len(self.a), self.a[0].shape[0], dtype=torch.int32)

    @property
    def max_rank(self) -> int:
        return int(self.a[0].shape[1])

    @property
    def dtype(self) -> torch.dtype:
        return self.a[0].dtype

    def put(self, slot: int, slices: Sequence[tuple[torch.Tensor, torch.Tensor] | None]) -> None:
        """Fill a slot. A slice is (A [rank, in], B [out, rank]) or None; the scaling is part of B.

        Raises `ValueError` where a shape does not fit.
        """
        if len(slices) != len(self.a):
            raise ValueError(f"{len(slices)} slices for a module of {len(self.a)}")
        self.clear(slot)
        for index, pair in enumerate(slices):
            if pair is None:
                continue
            a_KI, b_OK = pair
            rank = a_KI.shape[0]
            if (
                rank > self.max_rank
                or a_KI.shape[1] != self.a[index].shape[2]
                or b_OK.shape != (self.outs[index], rank)
            ):
                raise ValueError(
                    f"slice {index}: A {tuple(a_KI.shape)} and B {tuple(b_OK.shape)} do not fit a module of "
                    f"{self.a[index].shape[2]} inputs, {self.outs[index]} outputs and rank {self.max_rank} at most"
                )
            self.a[index][slot, :rank].copy_(a_KI)
            self.b[index][slot, :rank].copy_(b_OK.t())
            self.ranks[index, slot] = rank

    def clear(self, slot: int) -> None:
        """Empty a slot: the module's output stays the base's."""
        self.ranks[:, slot] = 0

    def touched(self, slot: int) -> bool:
        """Whether the adapter in the slot changes this module."""
        return bool(self.ranks[:, slot].any())
