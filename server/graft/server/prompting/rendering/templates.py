"""What is asked of a template language, whichever it is: what a template reads, and what it makes of values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.errors import BadInput, Violation
from graft.server.runtime.violations import shown

MAX_TEMPLATE_CHARACTERS = 1 << 20
MAX_RENDERED_CHARACTERS = 4 << 20
"""Of all that one call renders."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One rendering: a template, and the values of its variables; and where a request has the one and the others."""

    field: str
    template: str
    values: Mapping[str, Any]
    values_field: str = "variables"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a template reads, in the order in which it does; why it cannot be used; what its author should know."""

    variables: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Texts and attributes that stand in it; of Jinja only."""
    faults: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def value_text(value: object) -> str | None:
    """A variable's value as it stands in a prompt: text as it is, numbers, true and false as JSON; None for others."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return json.dumps(value)
    return None


def value_problem(value: object) -> str:
    """Why `value_text` has none."""
    kinds = "a variable of `{{…}}` is text, a number, true or false"
    if isinstance(value, Mapping | list | tuple):
        remedy = "write it as text, or take template_format jinja2, which reads lists and objects"
        return f"is {shown(value)}; {kinds}: {remedy}"
    return f"is {shown(value)}; {kinds}"


def too_long(field: str, num_characters: int) -> BadInput:
    """What is rendered is bounded before it is made."""
    limit = MAX_RENDERED_CHARACTERS
    problem = f"makes {num_characters} characters or more; the limit is {limit}: shorten the template or its values"
    return BadInput(Violation(field=field, problem=problem))
