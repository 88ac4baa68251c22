"""Packed rows are read as apart, or refused: every architecture that ``AutoModelForCausalLM`` can build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedModel

from graft.training.batch.packing import Encoded, PackedBatch, batch_of_rows
from graft.training.errors import ConfigurationError
from graft.training.objective.causal import CausalObjective
from graft.training.objective.masks import fitting
from graft.training.objective.packable import check_causal, check_packing
from tests.training.objective.tiny_models import MODEL_TYPES, tiny

UNBUILT = {
    "gemma3n": "requires the timm library",
    "gemma4_assistant": "no attribute 'vocab_size'",  # drafts from the states of another model
    "gemma4_unified_assistant": "no attribute 'vocab_size'",
    "musicgen": "Field 'text_encoder'",  # made of three models, whose configurations have no defaults
    "musicgen_melody": "Field 'text_encoder'",
}
"""Cannot be made from a configuration alone, and what says so."""

BERTS = (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
"""Read both sides of a token, until their configuration says ``is_decoder``."""
_BY_REASON = {
    "reads both sides of a token": (*BERTS, "cpmant", "prophetnet", "xlm", "xlnet"),
    "cannot be called on a row": ("reformer",),
    r"layers \(conv\)": ("lfm2", "lfm2_moe"),
    r"layers \(linear_attention\)": (
        *("bamba", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "mamba", "mamba2", "minimax"),
        *("olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"),
    ),
    r"layers \(linear_attention, mlp, moe\)": ("nemotron_h",),
    r"layers \(hybrid, linear_attention\)": ("zamba", "zamba2"),
    r"layers \(hybrid\)": ("falcon_h1", "zaya"),
    r"layers \(hybrid, hybrid_sliding\)": ("inkling_text",),
    r"layers \(indexed_attention\)": ("axk2", "deepseek_v32", "glm_moe_dsa", "hy_v4"),
    r"layers \(indexed_attention, linear_attention\)": ("qwen4_exp", "qwen4_exp_text"),
    r"layers \(compressed_sparse_attention, heavily_compressed_attention\)": ("deepseek_v4",),
    r"layers \(minimax_m3_sparse\)": ("minimax_m3_vl_text",),
    r"layers \(block_sparse\)": ("bigbird_pegasus",),
    "layers that carry something of a row into the next one": ("blt", "recurrent_gemma", "rwkv", "xlstm"),
    "counts positions from the start of the line": (
        *("bart", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart", "trocr"),
    ),
    "takes no mask": ("bloom", "openai-gpt"),
}
REFUSED = {model_type: reason for reason, types in _BY_REASON.items() for model_type in types}
TAKEN = [model_type for model_type in MODEL_TYPES if model_type not in UNBUILT | REFUSED]
DECODING_BERTS = [model_type for model_type in BERTS if model_type not in ("big_bird", "roformer")]

LOSS = 1e-5
GRADIENT = 1e-4
"""Relative L2: what a float32 sum over 35 tokens leaves; leaks begin at 5e-2."""


def rows() -> list[Encoded]:
    """Longer than the window and the chunks; the last one is shorter."""
    return [
        Encoded(input_ids=[(first + 7 * number) % 90 + 5 for number in range(size)], supervised=[True] * size)
        for size, first in ((19, 3), (11, 50), (5, 77))
    ]


def packed() -> PackedBatch:
    return batch_of_rows([rows()], length=40, pad_id=0)


def apart() -> list[PackedBatch]:
    return [batch_of_rows([[row]], length=len(row.input_ids), pad_id=0) for row in rows()]


def learned(model: PreTrainedModel, batches: Sequence[PackedBatch]) -> tuple[float, Tensor]:
    """The summed loss, and all gradients."""
    model.zero_grad()
    loss = torch.stack([CausalObjective().sums(model, batch)["tokens"] for batch in batches]).sum()
    loss.backward()
    found = [(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in model.parameters()]
    return loss.item(), torch.cat(found)


def assert_alike(model: PreTrainedModel, one: Sequence[PackedBatch], other: Sequence[PackedBatch]) -> None:
    (loss, gradient), (expected, its_gradient) = learned(model, one), learned(model, other)
    assert loss == pytest.approx(expected, rel=LOSS)
    assert (gradient - its_gradient).norm() <= GRADIENT * its_gradient.norm()


@pytest.mark.parametrize("model_type", TAKEN)
def test_packed_rows_are_read_as_apart(model_type: str) -> None:
    model = tiny(model_type)
    check_causal(model)
    check_packing(model)
    assert_alike(model, [packed()], apart())


@pytest.mark.parametrize("model_type", TAKEN)
def test_a_line_without_borders_would_be_seen(model_type: str) -> None:
    """In the loss, tenfold at least: so the test above can fail."""
    model, batch = tiny(model_type), packed()
    borderless = replace(batch, document_BL=batch.document_BL.clamp(max=1))
    given: dict[str, Any] = {"input_ids": batch.input_ids_BL, "position_ids": batch.position_ids_BL, "use_cache": False}
    with torch.no_grad():
        found, expected = (
            model(**given, attention_mask=fitting(model, one.attention_mask())).logits for one in (borderless, batch)
        )
    assert (found - expected).norm() > 10 * GRADIENT * expected.norm()


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_would_be_mixed_is_refused_with_its_reason(model_type: str) -> None:
    model = tiny(model_type)
    with pytest.raises(ConfigurationError, match=f"a {model.config.model_type}.* {REFUSED[model_type]}"):
        check_causal(model)
        check_packing(model)


@pytest.mark.parametrize("model_type", DECODING_BERTS)
def test_a_bert_that_is_a_decoder_is_taken(model_type: str) -> None:
    model = tiny(model_type, is_decoder=True)
    check_causal(model)
    check_packing(model)
    assert_alike(model, [packed()], apart())


@pytest.mark.parametrize("model_type", UNBUILT)
def test_what_is_not_built_says_why(model_type: str) -> None:
    with pytest.raises((ImportError, AttributeError, StrictDataclassError), match=UNBUILT[model_type]):
        tiny(model_type)
