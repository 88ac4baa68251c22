"""What a training row says, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One message. ``is_learned`` is false for an assistant turn of weight 0 and for every other role."""

    role: str
    content: str
    is_learned: bool
    reasoning: str | None = None
    """What an assistant thinks before it answers."""
    calls: tuple[Mapping[str, Any], ...] = ()
    """An assistant's ``tool_calls``, with arguments as objects."""
    call_id: str | None = None
    """Of a tool's turn: the call that it answers,"""
    name: str | None = None
    """and the function that was called. Of another's turn who speaks, which chat templates do not show."""

    @property
    def message(self) -> dict[str, Any]:
        """As a server holds it."""
        found: dict[str, Any] = {"role": self.role}
        if self.calls:
            found["tool_calls"] = [dict(call) for call in self.calls]
        if self.reasoning is not None:
            found["reasoning_content"] = self.reasoning
        if self.call_id is not None:
            found |= {"tool_call_id": self.call_id, "name": self.name or ""}
        return {**found, "content": self.content}


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns, the tools that the assistant may call, and what the chat template is told beside them."""

    turns: tuple[Turn, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A raw prompt and how it goes on."""

    prompt: str
    completion: str


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Alpaca's (Taori et al. 2023): one question, and the answer to it."""

    instruction: str
    input: str
    output: str
    system: str = ""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text that is learned whole: continued pretraining."""

    text: str


Row = Conversation | Completion | Instruction | Document
