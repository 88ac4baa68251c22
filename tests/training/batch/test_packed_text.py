"""Rows of a stream of tokens are those of its documents, however the stream is kept."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graft.training.batch.packing import IGNORED, PackedBatch
from graft.training.batch.text_rows import PackedText
from graft.training.corpus.shards.stream import Part, TokenStream
from graft.training.errors import DataError

END, PAD = 2, 0


def rows_of_one_tensor(documents: list[list[int]], rows: list[int], length: int) -> PackedBatch:
    """The first implementation: everything is looked up in one tensor of all tokens."""
    pieces = [torch.tensor([*document, END], dtype=torch.int32) for document in documents]
    ends, stream = torch.tensor([len(piece) for piece in pieces]).cumsum(0), torch.cat(pieces)
    at_BL = torch.tensor(rows)[:, None] * length + torch.arange(length)
    is_text_BL = at_BL < len(stream)
    at_BL = at_BL.clamp(max=len(stream) - 1)
    document_BL = torch.searchsorted(ends, at_BL, right=True)
    begin_BL = torch.where(document_BL > 0, ends[document_BL - 1], 0).maximum(at_BL[:, :1])
    ids_BL = torch.where(is_text_BL, stream[at_BL].long(), PAD)
    follows_BL = torch.zeros_like(is_text_BL)
    follows_BL[:, :-1] = is_text_BL[:, 1:] & (document_BL[:, 1:] == document_BL[:, :-1])
    return PackedBatch(
        input_ids_BL=ids_BL,
        labels_BL=torch.where(follows_BL, ids_BL.roll(-1, dims=1), IGNORED),
        position_ids_BL=torch.where(is_text_BL, at_BL - begin_BL, 0),
        document_BL=torch.where(is_text_BL, document_BL - document_BL[:, :1] + 1, 0),
    )


def in_parts(documents: list[list[int]], cuts: list[int], dtype: type = np.uint16) -> TokenStream:
    """Several arrays, of which each holds whole documents, or none."""
    bounds = sorted({0, len(documents), *(cut % (len(documents) + 1) for cut in cuts)})
    parts = []
    for begin, end in pairwise([0, *bounds]):
        ids = [one for document in documents[begin:end] for one in [*document, END]]
        ends = np.cumsum([len(document) + 1 for document in documents[begin:end]], dtype=np.int64)
        parts.append(Part(name=f"part {begin}", ids_N=np.array(ids, dtype=dtype), ends_D=ends, max_id=70_000))
    return TokenStream(parts)


texts = st.lists(st.lists(st.integers(3, 60_000), max_size=30), min_size=1, max_size=12)


@given(texts, st.lists(st.integers(0, 50), max_size=3), st.integers(1, 17), st.integers(0, 5))
def test_rows_are_to_the_bit_those_of_one_tensor(
    documents: list[list[int]], cuts: list[int], length: int, step: int
) -> None:
    options = {"length": length, "end_id": END, "pad_id": PAD, "rows_per_batch": 1, "batches_per_step": 1, "seed": 7}
    for source in ([[one] for one in documents], in_parts(documents, cuts)):
        data = PackedText(source, **options)  # type: ignore[arg-type]
        (whole,) = data.in_order(10_000)
        (drawn,) = data.batches(step)
        (number,) = data._numbers(step)
        for found, rows in ((whole, list(range(data.num_rows))), (drawn, number)):
            expected = rows_of_one_tensor(documents, rows, length)
            for name in ("input_ids_BL", "labels_BL", "position_ids_BL", "document_BL"):
                one = getattr(found, name)
                assert torch.equal(one, getattr(expected, name)) and one.dtype == torch.long, name
        assert list(data.documents()) == documents


def test_ids_beyond_16_bits_are_kept() -> None:
    ids = [2**32 - 1, 2**31, 65_536]
    data = PackedText(in_parts([ids], [], np.uint32), length=4, end_id=END, pad_id=PAD, **ORDER)
    with pytest.raises(DataError, match="it holds the id 4294967295, and its largest was 70000"):
        data.batches(0)
    data = PackedText(TokenStream.of([ids], END), length=4, end_id=END, pad_id=PAD, **ORDER)
    assert data.batches(0)[0].input_ids_BL.tolist() == [[*ids, END]]


ORDER = {"rows_per_batch": 1, "batches_per_step": 1, "seed": 0}


@pytest.mark.parametrize("ends", [[3, 2, 8], [3, 3, 8], [9, 4, 8]])
def test_ends_that_do_not_ascend_are_damage(ends: list[int]) -> None:
    part = Part(name="tokens/00000.ends", ids_N=np.ones(8, dtype=np.uint16), ends_D=np.array(ends))
    data = PackedText(TokenStream([part]), length=8, end_id=END, pad_id=PAD, **ORDER)
    with pytest.raises(DataError, match=r"tokens/00000.ends is damaged: the ends of its documents do not ascend"):
        data.batches(0)
