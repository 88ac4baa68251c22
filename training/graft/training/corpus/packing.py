"""Filling rows of equal length with whole documents, so that no token is padding if it can be avoided."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100
"""Label of a token that the loss leaves out (PyTorch's and Hugging Face's convention)."""


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Tokens of several documents side by side. Legend: B rows, L tokens per row."""

    input_ids_BL: Tensor
    labels_BL: Tensor
    """Already shifted: ``labels[:, i]`` is what position ``i`` predicts, or ``IGNORED``."""
    position_ids_BL: Tensor
    """Counts from 0 in every document."""
    document_BL: Tensor
    """Which document of its row a token belongs to; 0 is padding. Attention stays within one document."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Supervised tokens; by them a mixture of experts weighs its second term, too."""
        num = int((self.labels_BL != IGNORED).sum())
        return {"tokens": num, "balance": num}

    @property
    def num_tokens(self) -> int:
        """All tokens but padding."""
        return int((self.document_BL != 0).sum())

    def attention_mask(self) -> Tensor:
        """Causal and block-diagonal. Shape: (B, 1, L, L), true where the row's query may see the column's key."""
        length = self.input_ids_BL.shape[1]
        same = self.document_BL[:, :, None] == self.document_BL[:, None, :]
        return (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A tokenised document and which of its tokens are to be learned."""

    input_ids: Sequence[int]
    supervised: Sequence[bool]


def pack(documents: Iterable[Encoded], *, num_rows: int, length: int, pad_id: int, max_misses: int = 8) -> PackedBatch:
    """Puts each document into the first row with room, until ``max_misses`` documents in a row found none.

    A document is never cut; one longer than ``length`` counts as a miss. An exhausted iterable ends the batch early.
    """
    rows: list[list[Encoded]] = [[] for _ in range(num_rows)]
    room = [length] * num_rows
    misses = 0
    for document in documents:
        size = len(document.input_ids)
        fitting = next((row for row in range(num_rows) if room[row] >= size), None)
        if fitting is None:
            misses += 1
            if misses == max_misses:
                break
            continue
        rows[fitting].append(document)
        room[fitting] -= size
    return batch_of_rows(rows, length=length, pad_id=pad_id)


def batch_of_rows(rows: Sequence[Sequence[Encoded]], *, length: int, pad_id: int) -> PackedBatch:
    """Lays the documents of each row one after another; the last token of a document predicts nothing."""
    shape = (len(rows), length)
    input_ids_BL = torch.full(shape, pad_id)
    labels_BL = torch.full(shape, IGNORED)
    position_ids_BL = torch.zeros(shape, dtype=torch.long)
    document_BL = torch.zeros(shape, dtype=torch.long)
    for row, documents in enumerate(rows):
        start = 0
        for number, document in enumerate(documents, start=1):
            ids, supervised = torch.tensor(document.input_ids), torch.tensor(document.supervised)
            end = start + len(ids)
            input_ids_BL[row, start:end] = ids
            labels_BL[row, start : end - 1] = torch.where(supervised[1:], ids[1:], IGNORED)
            position_ids_BL[row, start:end] = torch.arange(len(ids))
            document_BL[row, start:end] = number
            start = end
    return PackedBatch(
        input_ids_BL=input_ids_BL, labels_BL=labels_BL, position_ids_BL=position_ids_BL, document_BL=document_BL
    )
