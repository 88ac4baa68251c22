"""The tokens that end an answer, alike where answers are learned and where they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase


def end_ids(tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int]) -> tuple[int, ...]:
    """The tokenizer's own end token first, then those that generation stops at beside it."""
    own = tokenizer.eos_token_id
    return tuple(dict.fromkeys([*([] if own is None else [own]), *stop_ids]))
