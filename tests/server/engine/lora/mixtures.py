"""Mixtures of experts with random weights, as small as the engine takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from graft.training.job.export import write_base
from graft.training.rootstock.tokenizer import build_tokenizer
from tests.cases.harness.bases import make_base

WIDTH, FEED_FORWARD, NUM_EXPERTS = 128, 256, 4
_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": FEED_FORWARD,
    "moe_intermediate_size": FEED_FORWARD,
    "num_experts": NUM_EXPERTS,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 128,
}


def mixtral(folder: Path) -> Path:
    """Whose experts' weights have other names in vLLM."""
    return make_base("mixtral", folder)


def qwen2_moe(folder: Path) -> Path:
    """With an expert that every token passes through; its gate and layers are linear layers, as the router is."""
    tokenizer = build_tokenizer(256)
    config = Qwen2MoeConfig(vocab_size=len(tokenizer), shared_expert_intermediate_size=FEED_FORWARD, **_SIZES)
    return _written(Qwen2MoeForCausalLM, config, tokenizer, folder)


def qwen3_moe(folder: Path) -> Path:
    """Whose router is also a part of vLLM's layer of experts."""
    tokenizer = build_tokenizer(256)
    config = Qwen3MoeConfig(vocab_size=len(tokenizer), head_dim=WIDTH // 4, **_SIZES)
    return _written(Qwen3MoeForCausalLM, config, tokenizer, folder)


def _written(kind: type[PreTrainedModel], config: Any, tokenizer: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    write_base(kind(config).to(torch.bfloat16), tokenizer, folder, card=f"# {folder.name}\n")
    return folder
