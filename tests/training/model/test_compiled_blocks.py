"""Blocks are compiled once, whatever documents lie in a batch's rows, and compute what they compute as written."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.model.attention import varlen_kernels
from graft.training.model.attention.varlen_kernels import KERNELS, Pieces
from graft.training.model.blocks import RECOMPUTATIONS, VARIANTS, compile_blocks, recompute
from graft.training.objective.attending import Circumstances, choose_attention
from graft.training.objective.causal import CausalObjective

LENGTH, NUM_BATCHES = 64, 12


@torch.library.custom_op("graft_tests::by_documents", mutates_args=())
def by_documents(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, scale: float, window: int | None
) -> Tensor:
    """Attention of whole rows as one operation, which is traced in one piece as the kernels of a GPU are."""
    shared = query.shape[1] // key.shape[1]
    chosen_HTS = _chosen(query, key.repeat_interleave(shared, 1), offsets, longest, scale, window)
    return torch.einsum("hts,shd->thd", chosen_HTS, value.repeat_interleave(shared, 1)).contiguous()


@torch.library.custom_op("graft_tests::by_documents_back", mutates_args=())
def back(
    towards: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    longest: int,
    scale: float,
    window: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Its gradients (Dao et al. 2022, arXiv:2205.14135, appendix B.2)."""
    shared = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    chosen_HTS = _chosen(query, keys, offsets, longest, scale, window)
    asked_HTS = torch.einsum("thd,shd->hts", towards, values)
    scores_HTS = chosen_HTS * (asked_HTS - (asked_HTS * chosen_HTS).sum(-1, keepdim=True)) * scale
    key_grad, value_grad = (
        torch.einsum("hts,thd->shd", *both).unflatten(1, (-1, shared)).sum(2)
        for both in ((scores_HTS, query), (chosen_HTS, towards))
    )
    return torch.einsum("hts,shd->thd", scores_HTS, keys).contiguous(), key_grad.contiguous(), value_grad.contiguous()


def _chosen(query: Tensor, keys: Tensor, offsets: Tensor, longest: int, scale: float, window: int | None) -> Tensor:
    """Probabilities, of every token for all."""
    assert longest >= int(offsets.diff().max())
    at_T = torch.arange(len(query))
    document_T = torch.searchsorted(offsets, at_T, right=True)
    distance_TS = at_T[:, None] - at_T
    seen_TS = (document_T[:, None] == document_T) & (distance_TS >= 0) & (distance_TS < (window or longest))
    return (torch.einsum("thd,shd->hts", query, keys) * scale).masked_fill(~seen_TS, -torch.inf).softmax(-1)


by_documents.register_fake(lambda query, *others: query.new_empty(query.shape))
back.register_fake(lambda towards, *given: tuple(one.new_empty(one.shape) for one in given[:3]))


def _kept(ctx: Any, inputs: Sequence[Any], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.rest = inputs[4:]


def _gradients(ctx: Any, towards: Tensor) -> tuple[Tensor | None, ...]:
    return (*back(towards, *ctx.saved_tensors, *ctx.rest), *([None] * 4))


by_documents.register_autograd(_gradients, setup_context=_kept)


def kernel(query: Tensor, key: Tensor, value: Tensor, pieces: Pieces, *, scale: float, window: int | None) -> Tensor:
    found: Tensor = by_documents(query, key, value, pieces.query_offsets, pieces.max_query, scale, window)
    return found


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Of which only what is traced and how often is looked at."""
    monkeypatch.setattr(varlen_kernels, "alike_at_once", kernel)
    monkeypatch.setitem(KERNELS, "cpu", kernel)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def model_of(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    windows = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"] * 2}
    config = AutoConfig.for_model(
        kind,
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=48,
        max_position_embeddings=4 * LENGTH,
        **({} if kind == "llama" else windows),
    )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    choose_attention(model, "varlen", Circumstances(device="cpu", dtype=torch.float32))
    return model.train()


def batch(number: int, *, rows: int = 2, length: int = LENGTH) -> PackedBatch:
    """Of as many documents in each row as the batch's number says, and one more, of any lengths."""
    generator = torch.Generator().manual_seed(number)
    lines = []
    for _ in range(rows):
        cuts = torch.randperm(length - 1, generator=generator)[:number].sort().values.add(1).tolist()
        sizes = [end - begin for begin, end in zip([0, *cuts], [*cuts, length], strict=True)]
        ids = [torch.randint(97, (size,), generator=generator).tolist() for size in sizes]
        lines.append([Encoded(input_ids=one, supervised=[True] * len(one)) for one in ids])
    return batch_of_rows(lines, length=length, pad_id=0)


def learned(model: PreTrainedModel, given: PackedBatch) -> Tensor:
    """The loss and all gradients."""
    model.zero_grad()
    loss = CausalObjective().sums(model, given)["tokens"]
    loss.backward()
    return torch.cat([loss.detach()[None], *(one.grad.flatten() for one in model.parameters() if one.grad is not None)])


@pytest.mark.parametrize("how", RECOMPUTATIONS)
@pytest.mark.parametrize(("kind", "num_kinds"), [("llama", 1), ("gemma3_text", 2)])
def test_other_documents_are_nothing_new(kind: str, num_kinds: int, how: str) -> None:
    written, compiled = model_of(kind), model_of(kind)
    recompute(compiled, how)
    compile_blocks(compiled)
    for number in range(NUM_BATCHES):
        given = batch(number)
        torch.testing.assert_close(learned(compiled, given), learned(written, given), rtol=1e-4, atol=1e-5)
        assert counters["stats"]["unique_graphs"] == num_kinds
    assert not counters["graph_break"]


def test_rows_of_other_lengths_are_soon_nothing_new() -> None:
    """As in fine-tuning: batches differ in how many rows they have and how long these are."""
    written, compiled = model_of("llama"), model_of("llama")
    recompute(compiled)
    compile_blocks(compiled, lengths_vary=True)
    found = []
    for number in range(NUM_BATCHES):
        given = batch(number, rows=2 + number % 3, length=LENGTH + 32 * (number % 4))
        torch.testing.assert_close(learned(compiled, given), learned(written, given), rtol=1e-4, atol=1e-5)
        found.append(counters["stats"]["unique_graphs"])
    assert found[3] == found[-1] <= 4
    assert not counters["graph_break"]


def test_there_is_room_for_every_variant() -> None:
    """torch goes on without compiling after so many."""
    compile_blocks(model_of("llama"))
    assert torch._dynamo.config.recompile_limit >= VARIANTS > 8
