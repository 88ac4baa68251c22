"""Replies drawn at random from what a grammar allows, over the shipped base's vocabulary and without a model."""

from __future__ import annotations

import functools
import random
from typing import Any

import llguidance
import llguidance.numpy
import numpy

from graft.adapters.base.base import shipped_bases

_VOCABULARY, _END = 384, 2


@functools.cache
def _tokenizer() -> llguidance.LLTokenizer:
    text = (shipped_bases()["rootstock-5m"] / "tokenizer.json").read_text()
    return llguidance.LLTokenizer(text, _VOCABULARY, _END)


def drawn(grammar: str, seed: int, max_tokens: int) -> str | None:
    """A reply that the grammar calls finished, None where `max_tokens` were not enough. Fails with the grammar."""
    chance: Any = random.Random(seed)
    matcher = llguidance.LLMatcher(_tokenizer(), grammar, log_level=0)
    mask = llguidance.numpy.allocate_token_bitmask(1, _VOCABULARY)
    tokens: list[int] = []
    while len(tokens) < max_tokens:
        llguidance.numpy.fill_next_token_bitmask(matcher, mask, 0)
        assert not matcher.is_error(), matcher.get_error()
        allowed = numpy.nonzero(numpy.unpackbits(mask.view(numpy.uint8), bitorder="little")[:_VOCABULARY])[0]
        token = int(chance.choice(list(allowed)))
        if token == _END:
            return bytes(_tokenizer().decode_bytes(tokens)).decode()
        tokens.append(token)
        assert matcher.consume_token(token), matcher.get_error()
    return None
