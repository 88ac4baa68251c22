"""Mixtures of experts with random weights, as small as the engine takes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedConfig, Qwen2MoeConfig, Qwen2MoeForCausalLM

from graft.training.job.export import write_base
from graft.training.rootstock.tokenizer import build_tokenizer

WIDTH, FEED_FORWARD, NUM_EXPERTS = 128, 256, 4


def qwen2_moe(folder: Path) -> Path:
    """With an expert that every token passes through, whose gate, layers and router are linear layers."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(256)
    config: PreTrainedConfig = Qwen2MoeConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=FEED_FORWARD,
        moe_intermediate_size=FEED_FORWARD,
        shared_expert_intermediate_size=FEED_FORWARD,
        num_experts=NUM_EXPERTS,
        num_experts_per_tok=2,
        max_position_embeddings=128,
    )
    write_base(Qwen2MoeForCausalLM(config).to(torch.bfloat16), tokenizer, folder, card="# qwen2_moe\n")
    return folder
