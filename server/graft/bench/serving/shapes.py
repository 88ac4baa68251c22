"""Bases to measure on: the shipped one, and random weights in the shape of well-known models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.adapters.base.base import Base, shipped_bases

_NUM_BYTES = 256


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model by its dimensions. `cost` is the work of a token relative to SmolLM2-135M, for estimates only."""

    name: str
    config_class: str
    cost: float
    dimensions: Mapping[str, Any] = field(default_factory=dict)


SHAPES: Mapping[str, Shape] = {
    "smollm2-135m": Shape(
        name="smollm2-135m",
        config_class="LlamaConfig",
        cost=1.0,
        dimensions={
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        },
    ),
    "qwen3-0.6b": Shape(
        name="qwen3-0.6b",
        config_class="Qwen3Config",
        cost=4.0,
        dimensions={
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "vocab_size": 151936,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        },
    ),
    "shipped": Shape(name="shipped", config_class="", cost=0.15),
}


def make_base(shape: Shape, folder: Path) -> Base:
    """The shipped base, or one with random weights (seed 0) in `folder`; an earlier run's is taken again."""
    if not shape.config_class:
        return Base.from_folder(next(iter(shipped_bases().values())))
    path = folder / shape.name
    if not (path / "tokenizer.json").exists():
        _write_weights(shape, path)
        _write_tokenizer(path, shape.dimensions["vocab_size"])
    return Base.from_folder(path, shape.name, cache_dir=folder / "hashes")


def context_of(base: Base) -> int:
    """Tokens that fit the base's context."""
    return int(json.loads((base.path / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"])


def _write_weights(shape: Shape, path: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    ids = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = getattr(transformers, shape.config_class)(tie_word_embeddings=True, **ids, **shape.dimensions)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(path)


def _write_tokenizer(path: Path, vocab_size: int) -> None:
    """One token per byte, and as many that no text gives as fill the vocabulary: every id can be decoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|end|>", *letters, *(f"w{number}" for number in range(vocab_size - _NUM_BYTES - 1))]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "pad_token": "<|end|>"}
    config["chat_template"] = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer.save(str(path / "tokenizer.json"))
