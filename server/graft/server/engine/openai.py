"""What serving asks of an engine's OpenAI half: answers in OpenAI's form to requests that were checked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from graft.server.engine.engine import EngineAdapter, Prompt
from graft.server.engine.tools.tools import ToolUse


@dataclass(frozen=True, kw_only=True)
class OpenAIRequest:
    """The honoured fields, each of them usable, and the prompts as tokens. One with `messages` is a chat.

    `tools` are those that its answer may call; `variables` are what the chat template was told of reasoning.
    """

    fields: dict[str, Any]
    prompts: Sequence[Prompt]
    tools: ToolUse | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        return "messages" in self.fields

    @property
    def num_choices(self) -> int:
        """How many answers each prompt gets."""
        return int(self.fields.get("n") or 1)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer: `body`, or `frames` (decoded chunks) where a stream was asked for. Its ids hold the request's."""

    body: dict[str, Any] | None = None
    frames: AsyncGenerator[dict[str, Any], None] | None = None


class Meter(Protocol):
    """Hears what the engine does for one request. Numbers tell its prompts and each prompt's choices apart."""

    def read(self, prompt: int, *, num_tokens: int, num_cached: int) -> None:
        """The engine has read a prompt. Called again with each step; the first counts."""
        ...

    def made(self, prompt: int, choice: int, num_tokens: int) -> None:
        """A choice grew by so many tokens."""
        ...

    def ended(self, prompt: int, choice: int) -> None:
        """A choice is complete."""
        ...


class OpenAIBackend(Protocol):
    """Chat and text completions over whatever engine runs now."""

    async def answer(
        self,
        request: OpenAIRequest,
        *,
        adapter: EngineAdapter | None,
        request_id: str,
        meter: Meter,
        cache_salt: str | None = None,
    ) -> Reply:
        """Raises `InvalidRequest` with the field, `EngineDied`. Closing the frames aborts the request in the engine."""
        ...
