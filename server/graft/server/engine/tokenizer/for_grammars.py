"""Tokenizers for grammars: those that llguidance cannot read from a tokenizer's file are given to it token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llguidance
import llguidance.hf

from graft.server.engine.tokenizer.token_bytes import TokenBytes

_read_file = llguidance.hf.from_tokenizer


def read_every_tokenizer() -> None:
    """Let vLLM's grammar backend in this process take them all: one that fails there would end the engine."""
    llguidance.hf.from_tokenizer = grammar_tokenizer


def grammar_tokenizer(
    hf_tokenizer: Any,
    n_vocab: int | None = None,
    eos_token: int | list[int] | None = None,
    slices: list[str] | None = None,
) -> llguidance.LLTokenizer:
    """As `llguidance.hf.from_tokenizer`, for any tokenizer."""
    try:
        return _read_file(hf_tokenizer, n_vocab=n_vocab, eos_token=eos_token, slices=slices)
    except ValueError:  # a decoder that it does not know
        wrapped = llguidance.TokenizerWrapper(_Vocabulary(hf_tokenizer, n_vocab or len(hf_tokenizer)))
        return llguidance.LLTokenizer(wrapped, n_vocab=n_vocab, eos_token=eos_token, slices=slices)


class _Vocabulary:
    """What llguidance asks of a tokenizer in Python. `tokens` are bytes by id."""

    def __init__(self, tokenizer: Any, num_tokens: int) -> None:
        bytes_of = TokenBytes(tokenizer)
        self.eos_token_id: int | None = tokenizer.eos_token_id
        self.bos_token_id: int | None = tokenizer.bos_token_id
        self.special_token_ids: Sequence[int] = tokenizer.all_special_ids
        self.tokens: Sequence[bytes] = [bytes_of(token_id) for token_id in range(num_tokens)]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
