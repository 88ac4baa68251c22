"""Attention in blocks against torch's own in float64, and within Hugging Face's models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from graft.training.model.attention.in_blocks import BLOCK, LONGEST, NAME, attend_in_blocks, attention

ROUNDED = 2e-2
"""Relative L2 that scores in bfloat16 leave room for; torch's own kernel, with scores in float32, has 4e-3."""
MODULE: Any = SimpleNamespace(is_causal=True)


def inputs(*, length: int, keys: int | None = None, heads: int = 4, kv_heads: int = 4) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(2, length, heads, 16), *[(2, keys or length, kv_heads, 16)] * 2]
    return [torch.randn(shape, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for shape in shapes]


def causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


def documents(length: int) -> Tensor:
    """Two rows, each of two documents."""
    numbers = torch.arange(length)[None] >= torch.tensor([[length // 3], [length // 2]])
    return causal(length) & (numbers[:, None, :, None] == numbers[:, None, None, :])


def window(length: int) -> Tensor:
    """Of eight tokens."""
    return causal(length) & torch.ones(length, length, dtype=torch.bool).triu(-7)


def oracle(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, is_causal: bool) -> list[Tensor]:
    """Output and gradients."""
    exact = [one.detach().double().requires_grad_() for one in (query, key, value)]
    output = nn.functional.scaled_dot_product_attention(*exact, attn_mask=mask, is_causal=is_causal, enable_gqa=True)
    return with_gradients(output.transpose(1, 2), exact)


def with_gradients(output: Tensor, asked: list[Tensor]) -> list[Tensor]:
    towards = torch.linspace(-1, 1, output.numel()).view(output.shape).to(output.dtype)
    return [output, *torch.autograd.grad(output, asked, towards)]


def assert_near(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, exact in zip(found, expected, strict=True):
        assert (one.double() - exact).norm() <= ROUNDED * exact.norm()


@pytest.mark.parametrize("length", [1, 7, BLOCK, 2 * BLOCK + 5])
@pytest.mark.parametrize("is_causal", [True, False])
def test_without_mask(length: int, is_causal: bool) -> None:
    given = inputs(length=length)
    output, _ = attention(MODULE, *given, None, is_causal=is_causal)
    assert_near(with_gradients(output, given), oracle(*given, None, is_causal))


@pytest.mark.parametrize("mask", [causal, documents, window])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_masks(mask: Callable[[int], Tensor], kv_heads: int) -> None:
    given = inputs(length=3 * BLOCK, kv_heads=kv_heads)
    module: Any = SimpleNamespace(is_causal=True, num_key_value_groups=4 // kv_heads)
    output, _ = attention(module, *given, mask(3 * BLOCK))
    assert_near(with_gradients(output, given), oracle(*given, mask(3 * BLOCK), False))


def test_queries_of_a_part_of_the_row() -> None:
    """As under context parallelism."""
    given = inputs(length=BLOCK, keys=3 * BLOCK)
    mask = causal(3 * BLOCK)[:, :, BLOCK : 2 * BLOCK]
    output, _ = attention(MODULE, *given, mask)
    assert_near(with_gradients(output, given), oracle(*given, mask, False))


def test_who_sees_nothing_harms_nobody() -> None:
    given = inputs(length=2 * BLOCK)
    mask = causal(2 * BLOCK).clone()
    mask[:, :, BLOCK:] = False
    output, _ = attention(MODULE, *given, mask)
    assert_near(with_gradients(output, given), [one.nan_to_num() for one in oracle(*given, mask, False)])
    assert output[:, BLOCK:].eq(0).all()


def test_keys_with_a_common_part() -> None:
    """As trained ones have: a mean score of 20 takes four digits of a number in bfloat16."""
    query, key, value = inputs(length=2 * BLOCK)
    given = [(query + 1).detach().requires_grad_(), (key + 5).detach().requires_grad_(), value]
    output, _ = attention(MODULE, *given, None)
    assert_near(with_gradients(output, given), oracle(*given, None, True))


def test_the_scale_and_the_kind_of_a_module() -> None:
    given = inputs(length=BLOCK)
    output, _ = attention(SimpleNamespace(is_causal=False), *given, None, scaling=0.3)  # type: ignore[arg-type]
    exact = [one.detach().double() for one in given]
    expected = nn.functional.scaled_dot_product_attention(*exact, scale=0.3).transpose(1, 2)
    assert_near([output], [expected])


@pytest.mark.parametrize(
    "other",
    [
        {"dropout": 0.5},
        {"dtype": torch.float32},
        {"length": LONGEST + 1},
        {"mask": torch.zeros(1, 1, 8, 8)},
        {"is_learning": False},
    ],
)
def test_what_does_not_fit_goes_torch_s_way(other: dict[str, Any]) -> None:
    query, key, value = (one.to(other.get("dtype", torch.bfloat16)) for one in inputs(length=other.get("length", 8)))
    torch.manual_seed(1)
    mask, dropout = other.get("mask"), other.get("dropout", 0.0)
    with torch.set_grad_enabled(other.get("is_learning", True)):
        output, _ = attention(MODULE, query, key, value, mask, dropout=dropout)
    torch.manual_seed(1)
    expected = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=mask is None
    )
    assert torch.equal(output, expected.transpose(1, 2))


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "gpt_neox", "mistral", "bert"])
def test_models_lose_alike(model_type: str) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    if model_type == "mistral":  # narrower than the row
        sizes |= {"num_key_value_heads": 2, "sliding_window": 20}
    config = AutoConfig.for_model(model_type, vocab_size=97, max_position_embeddings=256, **sizes)
    kind = AutoModelForMaskedLM if model_type == "bert" else AutoModelForCausalLM
    torch.manual_seed(0)
    theirs = kind.from_config(config).eval()
    ours = copy.deepcopy(theirs).bfloat16()
    attend_in_blocks(ours)
    assert ours.config._attn_implementation == NAME
    ids = torch.randint(97, (3, 2 * BLOCK + 9))
    padding = torch.ones_like(ids)
    padding[1, 100:] = 0
    losses, slopes = [], []
    for model in (theirs, ours):
        loss = model(input_ids=ids, attention_mask=padding, labels=ids.where(padding == 1, -100)).loss
        loss.backward()
        losses.append(loss.item())
        slopes.append(torch.cat([one.grad.flatten().double() for one in model.parameters() if one.grad is not None]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)  # itself in bfloat16
    assert (slopes[1] - slopes[0]).norm() <= 0.03 * slopes[0].norm()


def test_saved_models_do_not_know(tmp_path: Path) -> None:
    config = AutoConfig.for_model("llama", vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = AutoModelForCausalLM.from_config(config)
    attend_in_blocks(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_other_attention_is_left() -> None:
    config = AutoConfig.for_model("llama", vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    attend_in_blocks(nn.ModuleList([model]))
    assert model.config._attn_implementation == "eager"
