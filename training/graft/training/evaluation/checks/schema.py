"""JSON Schemas of task files: their patterns run in RE2, and nothing they refer to is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import referencing
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
from jsonschema.validators import extend  # type: ignore[import-untyped]

from graft.training.evaluation.checks.patterns import BadPattern, compiled

UNSUPPORTED = ("patternProperties",)
"""Keywords that jsonschema reads with a matcher that backtracks."""


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and compiled(pattern).search(instance) is None:
        yield jsonschema.ValidationError(f"{instance[:60]!r} does not match {pattern[:60]!r}")


_Validator = extend(jsonschema.Draft202012Validator, {"pattern": _pattern})


def problem_of(value: Any, schema: Any) -> str | None:
    """What keeps a value from following a schema; None where it does."""
    try:
        found = best_match(_Validator(schema, registry=referencing.Registry()).iter_errors(value))
    except referencing.exceptions.Unresolvable as error:
        return f"the schema refers to {error.ref!r}, which is not in it"
    except RecursionError:
        return "the schema refers to itself without end"
    return None if found is None else str(found.message)[:200]


def broken(schema: Any) -> str | None:
    """Why a schema cannot be used; None where it can."""
    if not isinstance(schema, dict | bool):
        return "a JSON Schema is an object."
    found = best_match(_Validator(_Validator.META_SCHEMA).iter_errors(schema))
    if found is not None:
        return f"the schema is broken: {str(found.message)[:160]}."
    for node in _nodes(schema):
        for key in UNSUPPORTED:
            if key in node:
                return f"`{key}` is not supported in a schema here."
        if isinstance(node.get("pattern"), str):
            try:
                compiled(node["pattern"])
            except BadPattern as problem:
                return f"`pattern`: {problem}"
    return None


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield node
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
