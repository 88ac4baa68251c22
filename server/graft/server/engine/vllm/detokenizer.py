"""The text of what was generated behind a prompt whose tokens end inside a character.

vLLM's detokenizer starts from the prompt's text, but only where that ends in whole characters: else it gives the whole
prompt out again with the first token. The character that the prompt begins is here the completion's.
"""

from __future__ import annotations

from typing import Any

import tokenizers.decoders
from vllm.v1.engine import detokenizer
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

from graft.server.engine.tokenizer.token_bytes import TokenBytes, unfinished

_NO_CHARACTER = "\ufffd"


class Detokenizer(FastIncrementalDetokenizer):
    """vLLM's, started from the prompt's unfinished character where there is one."""

    def __init__(self, tokenizer: Any, request: Any) -> None:
        super().__init__(tokenizer, request)
        ids = list(request.prompt_token_ids or ())
        self._held: list[int] = []
        if not self._decode(ids).endswith(_NO_CHARACTER):
            return
        num_tokens, before = unfinished(ids, TokenBytes(tokenizer))
        self._held = ids[-max(num_tokens, 1) :]
        # Where nothing is unfinished (the character itself, or bytes that are none) the last token is only context.
        self._num_before = len(before if num_tokens else self._decode(self._held))

    def decode_next(self, next_token_id: int) -> str:
        if not self._held:
            return str(super().decode_next(next_token_id))
        self._held.append(next_token_id)
        text = self._decode(self._held)
        if len(text) <= self._num_before or text.endswith(_NO_CHARACTER):
            return ""
        self.stream = tokenizers.decoders.DecodeStream(ids=self._held, skip_special_tokens=self.skip_special_tokens)
        self._held = []
        return text[self._num_before :]

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=self.skip_special_tokens))


def start_inside_characters() -> None:
    """Let vLLM in this process make detokenizers of ours. May run several times in a process."""
    detokenizer.FastIncrementalDetokenizer = Detokenizer
