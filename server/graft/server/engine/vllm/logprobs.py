"""OpenAI's log-probabilities from vLLM's: no entry is lost among tokens of one text, and each shows its own bytes."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionLogProb,
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
)
from vllm.entrypoints.openai.completion.protocol import CompletionLogProbs

from graft.server.engine.tokenizer.token_bytes import TokenBytes, spelled

Found = Mapping[int, Any]
# JSON knows no infinity; OpenAI writes this for "not at all".
_LEAST = -9999.0


def chat_logprobs(
    token_ids: Sequence[int], found: Sequence[Found | None], num_top: int, bytes_of: TokenBytes
) -> ChatCompletionLogProbs:
    """`content`: each token with the `num_top` likeliest in its place."""
    content = []
    for token_id, entries in zip(token_ids, found, strict=False):
        ranked = sorted((entries or {}).items(), key=lambda item: item[1].rank)[:num_top]
        chosen = entries.get(token_id) if entries else None
        data = bytes_of(token_id)
        content.append(
            ChatCompletionLogProbsContent(
                token=spelled(data),
                bytes=list(data),
                logprob=_LEAST if chosen is None else max(chosen.logprob, _LEAST),
                top_logprobs=[_top(other, entry.logprob, bytes_of) for other, entry in ranked],
            )
        )
    return ChatCompletionLogProbs(content=content)


def _top(token_id: int, logprob: float, bytes_of: TokenBytes) -> ChatCompletionLogProb:
    data = bytes_of(token_id)
    return ChatCompletionLogProb(token=spelled(data), bytes=list(data), logprob=max(logprob, _LEAST))


def completion_logprobs(
    token_ids: Sequence[int], found: Sequence[Found | None], bytes_of: TokenBytes
) -> CompletionLogProbs:
    """The older form, without offsets (see `Offsets`)."""
    pairs = list(zip(token_ids, found, strict=False))
    # Every field is given: vLLM's streams leave out what was only filled in.
    return CompletionLogProbs(
        text_offset=[0] * len(pairs),
        tokens=[_key(token_id, bytes_of) for token_id, _ in pairs],
        token_logprobs=[None if one is None else max(one[token_id].logprob, _LEAST) for token_id, one in pairs],
        top_logprobs=[None if one is None else _told_apart(token_id, one, bytes_of) for token_id, one in pairs],
    )


def _told_apart(token_id: int, entries: Found, bytes_of: TokenBytes) -> dict[str, float]:
    """By text, the chosen token's first, then by rank; a text that is taken already gives way to `token_id:N`."""
    answer: dict[str, float] = {}
    for other, entry in sorted(entries.items(), key=lambda item: (item[0] != token_id, item[1].rank)):
        key = _key(other, bytes_of)
        answer[f"token_id:{other}" if key in answer else key] = max(entry.logprob, _LEAST)
    return answer


def _key(token_id: int, bytes_of: TokenBytes) -> str:
    data = bytes_of(token_id)
    text = spelled(data)
    return text if text.encode() == data else f"bytes:{text}"


class Offsets:
    """Where each token begins in the text, in characters; one that ends a character begins where the character does."""

    def __init__(self) -> None:
        self._num_characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, tokens: Sequence[str]) -> list[int]:
        offsets = []
        for token in tokens:
            offsets.append(self._num_characters)
            self._num_characters += len(self._decoder.decode(_bytes_of_key(token)))
        return offsets


def _bytes_of_key(token: str) -> bytes:
    if token.startswith("bytes:\\x"):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode()
