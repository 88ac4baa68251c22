"""The grammar of names of tenants, adapters and aliases."""

from __future__ import annotations

import re

from graft.adapters.errors import InvalidReference, Reason

NAME_GRAMMAR = "[a-z0-9][a-z0-9._-]{0,62}"
_NAME = re.compile(NAME_GRAMMAR + r"\Z")
_RESERVED = frozenset({"base", "ft", "prompt", "prompts"})


def check_name(text: str, *, what: str) -> str:
    """`text` if it is a well-formed name that no path can escape by. Raises InvalidReference."""
    # `..` fits the character grammar, but names end up in paths and resource names.
    if isinstance(text, str) and _NAME.match(text) and ".." not in text:
        return text
    problem = f"{text!r} is not a name; names match {NAME_GRAMMAR} and hold no '..'"
    raise InvalidReference(f"invalid {what} name", [Reason(field=what, problem=problem)])


def check_adapter_name(text: str) -> str:
    """Like `check_name`, for a new adapter; `base`, `ft` and `prompt` mean something else there."""
    check_name(text, what="adapter")
    if text in _RESERVED:
        problem = f"{text!r} is reserved in model references"
        raise InvalidReference("invalid adapter name", [Reason(field="adapter", problem=problem)])
    return text
