"""Bases of every kind that tasks are learned on, with random weights and tokenizers of a few words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from graft.adapters.base.base import Base
from graft.training.corpus.byte_pairs import train_tokenizer

WORDS = "good bad fine awful film plot the a is was and very Anna Bob Paris Rome lives in she he who where"
AUTO = {
    **dict.fromkeys(("bert", "roberta", "albert", "electra", "distilbert"), AutoModelForMaskedLM),
    **dict.fromkeys(("llama", "gpt2"), AutoModelForCausalLM),
    **dict.fromkeys(("bart", "t5"), AutoModelForSeq2SeqLM),
}
SIZES: Mapping[str, Mapping[str, Any]] = {
    "roberta": {"max_position_embeddings": 66},
    "albert": {"embedding_size": 32},
    "distilbert": {"dim": 64, "n_heads": 2, "n_layers": 1, "hidden_dim": 64},
    "llama": {"num_key_value_heads": 2},
    "bart": {
        "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
    },
    "t5": {"d_model": 64, "d_kv": 32, "d_ff": 64, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 1},
}  # fmt: skip


def tokenizer_of() -> PreTrainedTokenizerFast:
    """``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<mask>`` 3; nothing stands around a text."""
    return train_tokenizer([WORDS] * 3, vocab_size=300, context_tokens=64)


def with_frame(tokenizer: PreTrainedTokenizerFast, single: str, pair: str) -> PreTrainedTokenizerFast:
    """What the tokenizer puts around texts, in tokenizers' words."""
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=special)
    return tokenizer


def write_base(kind: str, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, **options: Any) -> Base:
    """A folder in Hugging Face's format."""
    torch.manual_seed(0)
    tokenizer = tokenizer or tokenizer_of()
    common = {
        "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64, "vocab_size": len(tokenizer), "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2,
    }  # fmt: skip
    model = AUTO[kind].from_config(AutoConfig.for_model(kind, **{**common, **SIZES.get(kind, {}), **options}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Base.from_folder(folder)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
