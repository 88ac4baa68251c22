"""Where the documents of a packed batch begin and end, for attention kernels over sequences of different lengths.

They read all rows as one: a document is a piece of the queries, and a piece of the keys whose last one is the last
query's own. Legend: N documents, padding at a row's end counted as one.

What is compiled would be compiled anew for other numbers in each batch. So the longest document is taken to be as long
as a row, which is the same in all, and how many documents there are is a size that compiled blocks take as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Made of tensors on the CPU: a kernel's launch must not wait for the device to say how long the longest is."""

    query_offsets: Tensor
    """Where each document begins among the queries of all rows, and their number. Shape: (N + 1,), int32."""
    key_offsets: Tensor
    max_query: int
    """Tokens of a row, which no document is longer than."""
    max_key: int
    key_index: Tensor | None = None
    """Which of the keys of all rows are read, in this order; None for all, as they lie."""

    @classmethod
    def of_rows(cls, document_BL: Tensor) -> Documents:
        """Of whole rows, by the number of each token's document."""
        offsets, _ = _pieces(document_BL, None)
        length = document_BL.shape[1]
        return cls(query_offsets=offsets, key_offsets=offsets, max_query=length, max_key=length)

    @classmethod
    def together(cls, several: Sequence[Documents]) -> Documents:
        """Of several batches' whole rows, one behind the other."""
        begins = torch.tensor([0, *(one.query_offsets[-1] for one in several)]).cumsum(0)
        parts = [one.query_offsets[:-1] + begin for one, begin in zip(several, begins, strict=False)]
        offsets = torch.cat([*parts, begins[-1:]]).int()
        longest = max(one.max_query for one in several)
        return cls(query_offsets=offsets, key_offsets=offsets, max_query=longest, max_key=longest)

    @classmethod
    def of_parts(cls, document_BL: Tensor, place_L: Tensor, position_BL: Tensor, key_place_K: Tensor) -> Documents:
        """Of queries from some places of every row, and keys from all of them, in another order.

        What a process has of a document is a piece for each of its chunks. Its keys are the document's from the first
        to the piece's own last, so that two pieces may read the same.
        """
        offsets, begin_N = _pieces(document_BL, place_L)
        length_N = offsets.diff().long()
        row_N, at_N = begin_N // len(place_L), begin_N % len(place_L)
        position_N = position_BL[row_N, at_N]
        keys_N = position_N + length_N
        key_offsets = torch.cat((keys_N.new_zeros(1), keys_N.cumsum(0)))
        within_K = torch.arange(int(key_offsets[-1])) - key_offsets[:-1].repeat_interleave(keys_N)
        places = (place_L[at_N] - position_N).repeat_interleave(keys_N) + within_K
        rows = row_N.repeat_interleave(keys_N) * len(key_place_K)
        return cls(
            query_offsets=offsets,
            key_offsets=key_offsets.int(),
            max_query=len(place_L),
            max_key=len(key_place_K),
            key_index=rows + key_place_K.argsort()[places],
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> Documents:
        """The same with tensors that ``change`` has copied."""
        return replace(
            self,
            query_offsets=change(self.query_offsets),
            key_offsets=change(self.key_offsets),
            key_index=None if self.key_index is None else change(self.key_index),
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """Of a Hugging Face model, which hands them down to its attention (``FlashAttentionKwargs``)."""
        sized = (self.query_offsets, self.key_offsets, self.key_index)
        for one in sized:  # of another size in each batch
            if one is not None:
                torch._dynamo.maybe_mark_dynamic(one, 0)
        own = {} if self.key_index is None else {"key_index": self.key_index}
        return {
            "cu_seq_lens_q": self.query_offsets,
            "cu_seq_lens_k": self.key_offsets,
            "max_length_q": self.max_query,
            "max_length_k": self.max_key,
            **own,
        }


def _pieces(document_BL: Tensor, place_L: Tensor | None) -> tuple[Tensor, Tensor]:
    """Offsets of what lies together of one document, and where each piece begins."""
    begins_BL = torch.ones_like(document_BL, dtype=torch.bool)
    begins_BL[:, 1:] = document_BL[:, 1:] != document_BL[:, :-1]
    if place_L is not None:
        begins_BL[:, 1:] |= place_L.diff() != 1
    begin_N = begins_BL.flatten().nonzero().flatten()
    return torch.cat((begin_N, begin_N.new_tensor([document_BL.numel()]))).int(), begin_N
