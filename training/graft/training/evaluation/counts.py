"""How often each of many numbers was seen: sorted, without a Python object for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sorted keys, and how often each was seen. Both of shape (K,), int64."""

    keys: Tensor
    counts: Tensor

    @classmethod
    def of(cls, keys: Tensor) -> Self:
        found, counts = keys.unique(return_counts=True)
        return cls(keys=found, counts=counts)

    def with_keys(self, keys: Tensor) -> Counts:
        """These, and further keys."""
        added = Counts.of(keys)
        every, places = torch.cat((self.keys, added.keys)).unique(return_inverse=True)
        counts = torch.zeros(len(every), dtype=torch.long)
        return Counts(keys=every, counts=counts.index_add_(0, places, torch.cat((self.counts, added.counts))))

    def at(self, keys_N: Tensor) -> Tensor:
        """How often each was seen, as float64: 0 where it was not."""
        if not len(self.keys):
            return torch.zeros(len(keys_N), dtype=torch.double)
        places_N = torch.searchsorted(self.keys, keys_N).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[places_N] == keys_N, self.counts[places_N], 0).double()
