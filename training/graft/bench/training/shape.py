"""The Llamas that are trained to be measured, and the batches that they are trained with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from graft.training.model.casting import cast


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Llama, and the batch it is trained with."""

    width: int
    num_layers: int
    num_heads: int
    feed_forward: int
    vocab_size: int
    rows: int
    length: int

    def config(self, *, pad_token_id: int | None = None) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.width,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_heads,
            max_position_embeddings=self.length,
            tie_word_embeddings=True,
            pad_token_id=pad_token_id,
        )

    def model(self, device: torch.device) -> LlamaForCausalLM:
        """In bfloat16, with random weights that are drawn on the device, always the same."""
        torch.manual_seed(0)
        with device:
            return cast(LlamaForCausalLM(self.config()), torch.bfloat16)


SHAPES: Mapping[str, Shape] = {
    "16m": Shape(width=384, num_layers=6, num_heads=6, feed_forward=1024, vocab_size=8192, rows=16, length=256),
    "1b": Shape(width=2048, num_layers=16, num_heads=32, feed_forward=8192, vocab_size=32000, rows=8, length=2048),
}
"""For two cores, and for one large GPU."""
