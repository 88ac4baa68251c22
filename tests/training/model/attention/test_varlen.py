"""Attention over documents, written slowly, against masks; and what kernels are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn import functional

from graft.training.batch.packing import Encoded, PackedBatch, Reach, batch_of_rows
from graft.training.model.attention import in_blocks as masked
from graft.training.model.attention import varlen, varlen_kernels
from graft.training.model.attention.varlen_kernels import Pieces
from graft.training.parallel.context import places

LENGTH = 32
MODULE: Any = SimpleNamespace(is_causal=True, num_key_value_groups=2)


def batch() -> PackedBatch:
    """Documents of one to nineteen tokens, whole rows, and a row without any."""
    sizes = [[19, 1, 9], [32], [3, 4, 5, 6, 7], []]
    rows = [[Encoded(input_ids=[5] * size, supervised=[True] * size) for size in row] for row in sizes]
    return batch_of_rows(rows, length=LENGTH, pad_id=0)


def heads(*, rows: int, dtype: torch.dtype = torch.float64, value_width: int = 8) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(rows, 4, LENGTH, 8), (rows, 2, LENGTH, 8), (rows, 2, LENGTH, value_width)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def with_gradients(output: Tensor, asked: list[Tensor]) -> list[Tensor]:
    towards = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return [output, *torch.autograd.grad(output, asked, towards)]


def by_documents(given: list[Tensor], whole: PackedBatch, **options: Any) -> Tensor:
    query, key, value = given
    return varlen.attention(MODULE, query, key, value, None, **options, **whole.documents.arguments)[0]


def by_mask(given: list[Tensor], mask: Tensor, **options: Any) -> Tensor:
    query, key, value = given
    found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True, **options)
    return found.transpose(1, 2)


@pytest.mark.parametrize("window", [None, 1, 6])
@pytest.mark.parametrize("value_width", [8, 4])
def test_documents_of_whole_rows(window: int | None, value_width: int) -> None:
    whole, given = batch(), heads(rows=4, value_width=value_width)
    output = by_documents(given, whole, scaling=0.3, sliding_window=window)
    expected = by_mask(given, whole.attention_mask(Reach(window=window)), scale=0.3)
    for one, exact in zip(with_gradients(output, given), with_gradients(expected, given), strict=True):
        assert torch.allclose(one, exact, atol=1e-12)


@pytest.mark.parametrize("num", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 6])
def test_documents_of_parts_of_rows(num: int, window: int | None) -> None:
    """As under context parallelism: what each of ``num`` has of the rows, with the keys of all in their order."""
    whole, parts = batch(), places(LENGTH, num)
    query, key, value = heads(rows=4)
    order = torch.cat(parts)
    for index, own in enumerate(parts):
        part = whole.part(parts, index)
        output, _ = varlen.attention(
            MODULE,
            query[:, :, own],
            key[:, :, order],
            value[:, :, order],
            None,
            sliding_window=window,
            **part.documents.arguments,
        )
        mask = part.attention_mask(Reach(window=window))
        expected = by_mask([query[:, :, own], key[:, :, order], value[:, :, order]], mask)
        text = part.document_BL != 0  # padding of another part is no padding of this one's
        for one, exact in zip(
            with_gradients(output[text], [query, key, value]),
            with_gradients(expected[text], [query, key, value]),
            strict=True,
        ):
            assert torch.allclose(one, exact, atol=1e-12)


def test_what_goes_to_a_device_was_counted_before() -> None:
    moved = batch().to("meta")
    assert moved.documents.max_query == 32 and isinstance(moved.documents.max_query, int)
    assert moved.documents.query_offsets.device.type == "meta" and moved.documents.query_offsets.dtype == torch.int32
    assert moved.documents.query_offsets.shape == (13,)  # nine documents and three ends of padding


def test_the_longest_document_is_taken_to_be_a_row() -> None:
    """A number of Python's, for which a block would be compiled anew."""
    whole, parts = batch(), places(LENGTH, 2)
    part = whole.part(parts, 1)
    assert (whole.documents.max_query, whole.documents.max_key) == (LENGTH, LENGTH)
    assert (part.documents.max_query, part.documents.max_key) == (LENGTH // 2, LENGTH)


@pytest.mark.parametrize("obstacle", [{"dropout": 0.5}, {"position_bias": torch.zeros(1, 4, LENGTH, LENGTH)}])
def test_what_kernels_cannot_is_done_by_a_mask(obstacle: dict[str, Any]) -> None:
    whole, given = batch(), heads(rows=4, dtype=torch.float32)
    torch.manual_seed(1)
    output = by_documents(given, whole, sliding_window=6, **obstacle)
    torch.manual_seed(1)
    query, key, value = given
    expected, _ = masked.attention(MODULE, query, key, value, whole.attention_mask(Reach(window=6)), **obstacle)
    assert torch.equal(output, expected)


def test_calls_without_documents_go_the_usual_way() -> None:
    (query, key, value), mask = heads(rows=4), batch().attention_mask()
    output, _ = varlen.attention(MODULE, query, key, value, mask)
    assert torch.allclose(output, by_mask([query, key, value], mask))


@pytest.mark.parametrize("window", [None, 6])
def test_torch_s_kernel_takes_what_it_is_given(window: int | None) -> None:
    """On the meta device, forward and backward: shapes and arguments, as its CUDA kernel has no CPU form."""
    kernel = varlen_kernels._torch_kernel()
    assert kernel is not None
    offsets = torch.tensor([0, 20, 64], dtype=torch.int32, device="meta")
    pieces = Pieces(query_offsets=offsets, key_offsets=offsets, max_query=44, max_key=44)
    shapes = [(64, 4, 16), (64, 2, 16), (64, 2, 16)]
    given = [torch.zeros(shape, dtype=torch.bfloat16, device="meta", requires_grad=True) for shape in shapes]
    query, key, value = given
    output = kernel(query, key, value, pieces, scale=0.25, window=window)
    assert output.shape == (64, 4, 16)
    assert [one.shape for one in torch.autograd.grad(output.sum(), given)] == [torch.Size(one) for one in shapes]


@pytest.mark.parametrize("window", [None, 6])
def test_a_compiled_block_traces_it_in_one_piece(window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, in place of CUDA."""
    kernel = varlen_kernels._torch_kernel()
    assert kernel is not None
    monkeypatch.setitem(varlen_kernels.KERNELS, "meta", kernel)
    given = [one.detach().to("meta", torch.bfloat16).requires_grad_() for one in heads(rows=4)]
    whole = batch().to("meta")

    def attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        return varlen.attention(MODULE, query, key, value, None, sliding_window=window, **options)[0]

    compiled = torch.compile(attend, backend="aot_eager", fullgraph=True, dynamic=False)
    output = compiled(*given, **whole.documents.arguments)
    assert output.shape == (4, LENGTH, 4, 8)
    output.sum().backward()
    assert all(one.grad is not None for one in given)


def test_parts_of_any_documents_run_the_same_compiled_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that a process reads are as many as its documents make them."""
    kernel = varlen_kernels._torch_kernel()
    assert kernel is not None
    monkeypatch.setitem(varlen_kernels.KERNELS, "meta", kernel)
    counter = CompileCounterWithBackend("aot_eager")

    def attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        return varlen.attention(MODULE, query, key, value, None, **options)[0]

    compiled = torch.compile(attend, backend=counter, fullgraph=True, dynamic=False)
    sizes = set()
    for first in (19, 17, 21, 18):
        row = [Encoded(input_ids=[5] * size, supervised=[True] * size) for size in (first, LENGTH - first)]
        part = batch_of_rows([row] * 4, length=LENGTH, pad_id=0).part(places(LENGTH, 2), 0).to("meta")
        query, key, value = (one.detach().to("meta", torch.bfloat16) for one in heads(rows=4))
        compiled(query[:, :, : LENGTH // 2], key, value, **part.documents.arguments)
        assert part.documents.key_index is not None
        sizes.add(len(part.documents.key_index))
    assert len(sizes) > 1 and counter.frame_count == 1


def test_a_window_counts_a_query_s_own_token() -> None:
    """Kernels count those before it: ``window_size`` of FlashAttention."""
    assert varlen_kernels._sides(6) == (5, 0) and varlen_kernels._sides(None) == (-1, 0)
