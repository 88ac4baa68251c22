"""What the catalog of programs keeps: versions, and the labels that move between them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from graft.server.prompting.program.program import PromptProgram, PromptType

VERSION_BYTES = 1024
"""Of a version beside its texts: objects, keys and rows."""


def stored_bytes(text: str, commit_message: str, tags: Iterable[str]) -> int:
    """What a version takes: its texts in UTF-8, and what all versions take."""
    return VERSION_BYTES + sum(len(one.encode(errors="replace")) for one in (text, commit_message, *tags))


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What lists tell of a program."""

    type: PromptType
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class PromptVersion:
    """An immutable version. `text` is the program's canonical JSON, `digest` that of its bytes."""

    tenant: str
    prompt: str
    number: int
    digest: str
    text: str
    tags: tuple[str, ...]
    commit_message: str
    create_time: datetime

    @cached_property
    def program(self) -> PromptProgram:
        """The program; read when it is first asked for, some milliseconds per hundred kilobytes."""
        return PromptProgram.model_validate_json(self.text)

    @cached_property
    def num_bytes(self) -> int:
        """As `stored_bytes` counts them."""
        return stored_bytes(self.text, self.commit_message, self.tags)

    @cached_property
    def heading(self) -> Heading:
        """Read when it is first asked for; nothing else of the program is kept in memory for it."""
        program = json.loads(self.text)
        return Heading(type=PromptType(program.get("type", PromptType.TEXT)), config=program.get("config", {}))


@dataclass(frozen=True, kw_only=True)
class PromptLabel:
    """A movable pointer to a version."""

    tenant: str
    prompt: str
    name: str
    version_number: int
    etag: str
    update_time: datetime
