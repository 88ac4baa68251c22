"""Text to token ids at the fronts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from graft.server.errors import BadInput, Violation

# No vocabulary in use has longer tokens on average over a whole prompt; a longer text cannot fit the context.
_MAX_CHARACTERS_PER_TOKEN = 64
# Below this, a thread costs more than the tokenizer does.
_INLINE_CHARACTERS = 4096


class Tokenizer(Protocol):
    """The base's tokenizer. `render_chat` opens the assistant's turn."""

    def encode(self, text: str) -> list[int]: ...

    def encode_continuation(self, text: str) -> list[int]: ...

    def render_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]: ...

    def tokens(self, ids: Sequence[int]) -> list[str]: ...


class Text:
    """Tokenizes without holding up other requests, and refuses what cannot fit the context unread."""

    def __init__(self, tokenizer: Tokenizer, *, vocab_size: int, max_model_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self.max_model_tokens = max_model_tokens

    async def encode(self, text: str, *, field: str) -> list[int]:
        """Ids of a prompt's text. Raises `BadInput`."""
        self._check_length(len(text), field)
        if len(text) < _INLINE_CHARACTERS:
            return self._tokenizer.encode(text)
        return await asyncio.to_thread(self._tokenizer.encode, text)

    async def render_chat(self, messages: list[dict[str, str]], *, field: str) -> list[int]:
        """Ids of a chat with the assistant's turn opened. Raises `BadInput`."""
        self._check_length(sum(len(message["content"]) for message in messages), field)
        return await asyncio.to_thread(self._tokenizer.render_chat, messages)

    async def continuation(self, prompt: str | None, prompt_ids: list[int], text: str, *, field: str) -> list[int]:
        """Ids that `text` appends to a prompt.

        Where the prompt is a text whose ids begin the ids of prompt and continuation together, the rest of those ids:
        what the model would have generated. Where a token would straddle the seam, or the prompt is not a text, the
        continuation's own ids without special tokens.
        """
        if prompt is not None:
            together = await self.encode(prompt + text, field=field)
            if together[: len(prompt_ids)] == prompt_ids and len(together) > len(prompt_ids):
                return together[len(prompt_ids) :]
        self._check_length(len(text), field)
        return self._tokenizer.encode_continuation(text)

    def check_ids(self, ids: Sequence[int], *, field: str) -> list[int]:
        """Ids of the vocabulary. Raises `BadInput`."""
        for index, one in enumerate(ids):
            if one >= self._vocab_size:
                problem = f"is {one}; the vocabulary ends at {self._vocab_size - 1}"
                raise BadInput(Violation(field=f"{field}[{index}]", problem=problem))
        return list(ids)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token."""
        return self._tokenizer.tokens(ids)

    def _check_length(self, num_characters: int, field: str) -> None:
        limit = _MAX_CHARACTERS_PER_TOKEN * self.max_model_tokens
        if num_characters > limit:
            problem = f"{num_characters} characters cannot fit the context of {self.max_model_tokens} tokens"
            raise BadInput(Violation(field=field, problem=f"{problem}; the limit is {limit} characters"))
