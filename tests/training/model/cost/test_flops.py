"""Arithmetic against torch's own count and published ones (number 22)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
)

from graft.training.model.cost import flops
from graft.training.model.cost.flops import flops_per_token, num_multiplied
from graft.training.model.cost.peaks import PEAKS

LENGTH, ROWS = 32, 2


def made(model_type: str, **options: Any) -> PreTrainedModel:
    shared: dict[str, Any] = {
        "vocab_size": 99,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 80,
        "max_position_embeddings": LENGTH,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "eager",
        "tie_word_embeddings": False,
    }
    kind: Any = AutoModelForMaskedLM if model_type in ("bert", "albert") else AutoModelForCausalLM
    model: PreTrainedModel = kind.from_config(AutoConfig.for_model(model_type, **shared | options))
    return model


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("llama", {}),
        ("llama", {"num_key_value_heads": 2}),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 24}),  # 96 wide where the model is 32, as in Qwen3-0.6B
        ("qwen3", {"num_key_value_heads": 1, "head_dim": 4}),
        ("mistral", {"num_key_value_heads": 4, "head_dim": 16}),
        ("gpt2", {}),
        ("gpt_neox", {}),
        ("olmo2", {}),
        ("bert", {"tie_word_embeddings": True}),
        ("albert", {"tie_word_embeddings": True, "embedding_size": 16}),
    ],
)
def test_reading_22_arithmetic_is_what_torch_counts(model_type: str, options: dict[str, Any]) -> None:
    """Products of matrices, forward and backward; rotary angles, which torch counts as such, are a few thousandths."""
    model = made(model_type, **options)
    ids = torch.randint(3, 99, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    found = flops_per_token(model, LENGTH)
    assert found is not None
    assert found * ROWS * LENGTH == pytest.approx(counter.get_total_flops(), rel=2e-3)


@pytest.mark.parametrize(
    ("model_type", "options"),
    [
        ("gemma", {"head_dim": 24, "num_key_value_heads": 1}),
        ("gemma2", {"head_dim": 24, "num_key_value_heads": 2, "sliding_window": LENGTH}),
        ("gemma3_text", {"head_dim": 24, "num_key_value_heads": 2, "sliding_window": LENGTH}),
        ("phi3", {"num_key_value_heads": 2}),
        ("mixtral", {"num_local_experts": 4}),
        ("olmoe", {"num_experts": 4}),
        ("granitemoe", {"num_local_experts": 4}),  # whose stacks are not called experts
        ("gpt_oss", {"num_local_experts": 4, "head_dim": 8, "sliding_window": LENGTH}),
        ("qwen2_moe", {"num_experts": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40}),
        ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24, "head_dim": 8}),
        ("hunyuan_v1_moe", {"num_experts": 4, "moe_topk": 2, "head_dim": 8}),
        ("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24, "moe_num_shared_experts": 1}),
        (
            "deepseek_v3",
            {
                "n_routed_experts": 8,
                "n_shared_experts": 1,
                "moe_intermediate_size": 24,
                "first_k_dense_replace": 1,
                "q_lora_rank": 16,
                "kv_lora_rank": 8,
                "qk_nope_head_dim": 8,
                "qk_rope_head_dim": 4,
                "v_head_dim": 12,
                "num_key_value_heads": 4,
                "n_group": 2,
                "topk_group": 1,
            },
        ),
    ],
)
def test_experts_and_odd_heads_are_what_torch_counts(model_type: str, options: dict[str, Any]) -> None:
    """Experts that nobody asks are not counted, those that all share are, whatever a configuration calls them."""
    common = {"num_key_value_heads": 2, "num_experts_per_tok": 2, "experts_implementation": "eager"}
    test_reading_22_arithmetic_is_what_torch_counts(model_type, common | options)


@pytest.mark.parametrize("source, target", [(32, 32), (32, 12), (20, 32)])
@pytest.mark.parametrize(
    "config",
    [
        T5Config(vocab_size=99, d_model=32, d_kv=12, d_ff=80, num_layers=3, num_decoder_layers=2, num_heads=4),
        BartConfig(
            vocab_size=99,
            d_model=32,
            max_position_embeddings=40,
            encoder_layers=3,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=2,
            encoder_ffn_dim=80,
            decoder_ffn_dim=48,
        ),
    ],
    ids=lambda config: config.model_type,
)
def test_both_sides_of_encoder_decoders_count(config: PretrainedConfig, source: int, target: int) -> None:
    config.decoder_start_token_id = 0
    model = AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager")
    read, written = (torch.randint(3, 99, (ROWS, length)) for length in (source, target))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=read, labels=written).loss.backward()
    found = flops_per_token(model, source, target_length=target)
    assert found is not None
    assert found * ROWS * source == pytest.approx(counter.get_total_flops(), rel=2e-3)


def test_frozen_weights_have_no_gradients_of_their_own() -> None:
    model = made("llama").requires_grad_(False)
    model.enable_input_require_grads()  # type: ignore[no-untyped-call]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    ids = torch.randint(3, 99, (ROWS, LENGTH))
    with FlopCounterMode(display=False) as counter:
        adapted(input_ids=ids, labels=ids).loss.backward()
    found = flops_per_token(adapted, LENGTH)
    assert found is not None
    assert found * ROWS * LENGTH == pytest.approx(counter.get_total_flops(), rel=5e-3)


def test_a_window_counts_the_keys_in_it() -> None:
    whole, half = (made("mistral", sliding_window=window) for window in (None, LENGTH // 2))
    mixed = made("gemma3_text", sliding_window=LENGTH // 2, layer_types=["sliding_attention"] * 2 + ["full_attention"])
    plain = made("gemma3_text", sliding_window=LENGTH)
    width = 4 * mixed.config.head_dim
    assert difference(whole, half) == 12 * 3 * 32 * LENGTH / 2
    assert difference(plain, mixed) == 12 * 2 * width * LENGTH / 2


def difference(one: PreTrainedModel, other: PreTrainedModel) -> float:
    larger, smaller = (flops_per_token(model, LENGTH) for model in (one, other))
    assert larger is not None and smaller is not None
    return larger - smaller


def test_experts_of_unknown_number_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("mixtral", num_local_experts=4)
    monkeypatch.setattr(flops, "_EXPERTS_PER_TOKEN", ("of_another_name",))
    assert flops_per_token(model, LENGTH) is None


def llama(**options: Any) -> PreTrainedModel:
    with torch.device("meta"):
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**options))
    return model


def test_palm_540b_reached_46_percent() -> None:
    """PaLM, table 3 and appendix B: 46.2 % of 6,144 TPU v4 of 275 TFLOP/s at 238.3K tokens/s. Its parallel blocks are
    as large as Llama's of one key head.
    """
    size = {"hidden_size": 18432, "num_hidden_layers": 118, "num_attention_heads": 48, "head_dim": 256}
    rest = {"intermediate_size": 73728, "num_key_value_heads": 1, "vocab_size": 256_000, "tie_word_embeddings": True}
    model = llama(**size, **rest)
    assert num_multiplied(model) == pytest.approx(540.35e9, rel=1e-3)
    found = flops_per_token(model, 2048)
    assert found is not None
    assert found * 238.3e3 / (6144 * 275e12) == pytest.approx(0.462, abs=5e-4)


LLAMA_3_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128_256,
}
LLAMA_2_13B = {
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "intermediate_size": 13824,
    "vocab_size": 32_000,
}


@pytest.mark.parametrize(
    ("config", "length", "speed", "share"),
    [(LLAMA_3_8B, 8192, 2904, 0.568), (LLAMA_3_8B, 8192, 2973, 0.582), (LLAMA_2_13B, 4096, 2162, 0.611)],
)
def test_torchtitan_and_we_agree(config: dict[str, Any], length: int, speed: float, share: float) -> None:
    """Its published tokens per second and MFU on A100s (torchtitan, docs/performance.md), where the table of embeddings
    still counted as a matrix.
    """
    found = flops_per_token(llama(**config), length)
    assert found is not None
    theirs = found + 6 * config["hidden_size"] * config["vocab_size"]
    assert theirs * speed / PEAKS["A100"] == pytest.approx(share, rel=2e-3)


def test_heads_need_not_be_as_wide_as_the_model() -> None:
    """Qwen3-0.6B: 16 heads of 128 where the model is 1,024 wide; 0.44B parameters outside of the embeddings (its card),
    and a tied head.
    """
    size = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
    rest = {"head_dim": 128, "intermediate_size": 3072, "vocab_size": 151_936, "tie_word_embeddings": True}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **size, **rest))
    head = 1024 * 151_936
    assert num_multiplied(model) - head == pytest.approx(0.44e9, rel=5e-3)
    assert flops_per_token(model, 4096) == 6 * num_multiplied(model) + 12 * 28 * 16 * 128 * 4096
