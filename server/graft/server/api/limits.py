"""Bounds on what one request may ask for, the same on both fronts, checked before the engine hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from graft.server.errors import BadInput, Violation

MAX_CHOICES = 64
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
MAX_CONTINUATIONS = 256
MAX_MESSAGES = 4096
MAX_LOGIT_BIASES = 1024
MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_NODES = 10_000
# A grammar is compiled for each repetition, inside the engine's process.
MAX_SCHEMA_COUNT = 4096
_COUNT_KEYS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


class Violations:
    """Collects what is wrong with a request, so that the caller learns all of it at once."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, field: str, problem: str) -> None:
        self._found.append(Violation(field=field, problem=problem))

    def raise_any(self) -> None:
        """Raises `BadInput` where something was added."""
        if self._found:
            raise BadInput(*self._found)


def check_json_schema(schema: object, field: str, violations: Violations) -> None:
    """Bounds on depth, size and repetition counts; what the schema means is the engine's to judge."""
    if not isinstance(schema, Mapping | bool):
        violations.add(field, "must be an object")
        return
    level: list[Any] = [schema]
    num_nodes = 0
    for _ in range(MAX_SCHEMA_DEPTH):
        num_nodes += len(level)
        if num_nodes > MAX_SCHEMA_NODES:
            violations.add(field, f"has more than {MAX_SCHEMA_NODES} parts")
            return
        for node in level:
            _check_counts(node, field, violations)
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    violations.add(field, f"is nested deeper than {MAX_SCHEMA_DEPTH}")


def _children(node: object) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    if isinstance(node, list):
        return node
    return []


def _check_counts(node: object, field: str, violations: Violations) -> None:
    if not isinstance(node, Mapping):
        return
    for key in _COUNT_KEYS:
        count = node.get(key)
        if isinstance(count, int | float) and count > MAX_SCHEMA_COUNT:
            violations.add(field, f"{key} is {count:g}; the limit is {MAX_SCHEMA_COUNT}")


def check_openai_body(body: Mapping[str, Any]) -> None:
    """Bounds on an OpenAI request's body. Types and names beyond them are the backend's. Raises `BadInput`."""
    violations = Violations()
    for name, limit in (("n", MAX_CHOICES), ("best_of", MAX_CHOICES), ("top_logprobs", MAX_LOGPROBS)):
        _check_at_most(body.get(name), name, limit, violations)
    _check_at_most(body.get("logprobs"), "logprobs", MAX_LOGPROBS, violations)
    for name in ("max_tokens", "max_completion_tokens"):
        if isinstance(body.get(name), int) and body[name] < 1:
            violations.add(name, f"is {body[name]}; at least 1 token is generated")
    stop = body.get("stop")
    stops = stop if isinstance(stop, list) else [stop]
    if len(stops) > MAX_STOPS:
        violations.add("stop", f"has {len(stops)} strings; the limit is {MAX_STOPS}")
    elif any(isinstance(one, str) and not 1 <= len(one) <= MAX_STOP_CHARACTERS for one in stops):
        violations.add("stop", f"each string has 1 to {MAX_STOP_CHARACTERS} characters")
    _check_length(body.get("messages"), "messages", MAX_MESSAGES, violations)
    _check_length(body.get("logit_bias"), "logit_bias", MAX_LOGIT_BIASES, violations)
    for name in ("response_format", "tools"):
        if isinstance(body.get(name), Mapping | list):
            check_json_schema({"": body[name]}, name, violations)
    violations.raise_any()


def _check_at_most(value: object, name: str, limit: int, violations: Violations) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > limit:
        violations.add(name, f"is {value:g}; the limit is {limit}")


def _check_length(value: object, name: str, limit: int, violations: Violations) -> None:
    if isinstance(value, Sequence | Mapping) and len(value) > limit:
        violations.add(name, f"has {len(value)} entries; the limit is {limit}")
