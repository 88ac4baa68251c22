"""What a caller asks for: a program, its variables' values, and what it says in place of the program."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graft.server.errors import BadInput, Violation
from graft.server.prompting.catalog.prompt import PromptVersion
from graft.server.prompting.program.program import Decoding, Document, PromptProgram
from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import shown

MAX_VARIABLES_CHARACTERS = 1 << 20
# Shorter ones are read sooner than a thread begins.
_INLINE_CHARACTERS = 16_384


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """`version` is None where the program itself was sent. `model`, `decoding` and `withhold` go before its own."""

    program: PromptProgram
    version: PromptVersion | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    documents: tuple[Document, ...] = ()
    model: str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    withhold: bool = False

    @property
    def model_reference(self) -> str:
        """Who shall answer; empty is the base."""
        return self.model or self.program.model or ""

    @property
    def digest(self) -> str | None:
        """The version's; None where nothing of the program is worth being remembered."""
        return None if self.version is None else self.version.digest

    def settled_decoding(self) -> Decoding:
        """The program's, with what the caller says in its place."""
        said = {name: value for name, value in self.decoding if value is not None}
        return self.program.decoding.model_copy(update=said)


async def read_variables(text: str, *, field: str = "variables") -> dict[str, Any]:
    """The values of a JSON object; a long one is read in a thread. Raises `BadInput`."""
    if len(text) <= _INLINE_CHARACTERS or len(text) > MAX_VARIABLES_CHARACTERS:
        return _read_variables(text, field)
    return await asyncio.to_thread(_read_variables, text, field)


def _read_variables(text: str, field: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    problem = None
    if len(text) > MAX_VARIABLES_CHARACTERS:
        problem = f"has {len(text)} characters; the limit is {MAX_VARIABLES_CHARACTERS}"
    else:
        try:
            value = read_json(text)
        except BadJson as error:
            problem = str(error)
        else:
            if isinstance(value, Mapping):
                return dict(value)
            problem = f"is {shown(value)}; it must be a JSON object of names and values"
    raise BadInput(Violation(field=field, problem=problem))


def as_text(value: Any) -> str:
    """A variable's value as texts are searched by it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
