"""The functions that a request offers the model, and which of them it may or must call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from graft.adapters.chat.tools import listed


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function: `parameters` is the JSON Schema of its arguments, an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any]
    strict: bool = False

    def listed(self) -> dict[str, Any]:
        """As chat templates read it, and as fine-tuning rows hold it."""
        return listed(self.name, self.description, self.parameters)


class Calling(StrEnum):
    """What the model does with its tools."""

    NONE = "none"
    AUTO = "auto"
    REQUIRED = "required"


@dataclass(frozen=True, kw_only=True)
class ToolUse:
    """`tools` are shown, `allowed` may be called. A named choice is `REQUIRED` of one tool.

    `in_text`: the chat template has no way to show tools, so they are written, and called, in the form of `form`.
    `reply_schema`, as text, is what a reply that calls nothing (`AUTO`) must be valid by.
    """

    tools: tuple[Tool, ...]
    allowed: tuple[Tool, ...]
    calling: Calling
    at_most_one: bool = False
    in_text: bool = False
    reply_schema: str | None = None

    @property
    def is_enforced(self) -> bool:
        """Whether a grammar holds calls to their tools' schemas. What a family writes in its own form is its own."""
        if self.calling is Calling.AUTO:
            return self.in_text or self.reply_schema is not None
        return self.calling is Calling.REQUIRED
