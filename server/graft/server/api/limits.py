"""Bounds on what one request may ask for, the same on both fronts, checked before the engine hears of it."""

from __future__ import annotations

import json
import re
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
MAX_SCHEMA_NODES = 1_000
MAX_PROPERTIES = 256
MAX_PATTERN_CHARACTERS = 2_000
MAX_REPETITION = 100
MAX_REPETITION_PRODUCT = 1_000
MAX_LIST_ENTRIES = 1_024
MAX_SEQUENCES = 128
# A grammar is compiled for each repetition, inside the engine's process.
MAX_SCHEMA_COUNT = 4096
_COUNT_KEYS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_REPETITION = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


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
    if isinstance(schema, Mapping) and schema.get("$ref") == "#":
        violations.add(field, 'is "$ref": "#", which refers to itself; describe a value')
    level: list[Any] = [schema]
    num_nodes = 0
    for _ in range(MAX_SCHEMA_DEPTH):
        num_nodes += len(level)
        if num_nodes > MAX_SCHEMA_NODES:
            violations.add(field, f"has more than {MAX_SCHEMA_NODES} parts")
            return
        for node in level:
            _check_counts(node, field, violations)
            _check_patterns(node, field, violations)
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
            violations.add(field, f"{key} is {str(count)[:40]}; the limit is {MAX_SCHEMA_COUNT}")


def _check_patterns(node: object, field: str, violations: Violations) -> None:
    if not isinstance(node, Mapping):
        return
    patterns = [node.get("pattern")]
    for key in ("properties", "patternProperties"):
        children = node.get(key)
        if not isinstance(children, Mapping):
            continue
        if len(children) > MAX_PROPERTIES:
            violations.add(field, f"{key} has {len(children)} entries; the limit is {MAX_PROPERTIES}")
        elif key == "patternProperties":
            patterns += children
    for pattern in patterns:
        if isinstance(pattern, str):
            _check_pattern(pattern, field, violations)


def _check_pattern(text: str, field: str, violations: Violations) -> None:
    """Bounds on a regular expression or grammar: its length and its repetition counts, alone and multiplied."""
    if len(text) > MAX_PATTERN_CHARACTERS:
        violations.add(field, f"has {len(text)} characters; the limit is {MAX_PATTERN_CHARACTERS}")
        return
    product = 1
    for match in _REPETITION.finditer(_ESCAPED.sub("", text)):
        count = max(int(bound or 0) for bound in match.groups())
        if count > MAX_REPETITION:
            violations.add(field, f"repeats {match[0][:40]}; the limit is {MAX_REPETITION} times")
            return
        product *= max(count, 1)
    if product > MAX_REPETITION_PRODUCT:
        violations.add(field, f"its repetitions multiply to more than {MAX_REPETITION_PRODUCT}; lower them")


def _check_structure(wanted: Mapping[str, Any], violations: Violations) -> None:
    for key, value in wanted.items():
        field = f"structured_outputs.{key[:40]}"
        if not isinstance(value, str):
            continue
        if key != "json":
            _check_pattern(value, field, violations)
        elif len(value) > MAX_PATTERN_CHARACTERS:
            violations.add(field, f"has {len(value)} characters; the limit is {MAX_PATTERN_CHARACTERS}")
        else:
            try:
                check_json_schema(json.loads(value), field, violations)
            except (ValueError, RecursionError) as error:
                violations.add(field, f"is not JSON: {str(error)[:100]}")
    _check_length(wanted.get("choice"), "structured_outputs.choice", MAX_LIST_ENTRIES, violations)
    if isinstance(wanted.get("json"), Mapping):
        check_json_schema(wanted["json"], "structured_outputs.json", violations)


def _check_self_references(body: Mapping[str, Any], violations: Violations) -> None:
    tools = body.get("tools")
    paths = [(body, "response_format", "json_schema", "schema")]
    paths += [({"tools": tool}, "tools", "function", "parameters") for tool in tools] if isinstance(tools, list) else []
    for node, *path in paths:
        schema: Any = node
        for key in path:
            schema = schema.get(key) if isinstance(schema, Mapping) else None
        if isinstance(schema, Mapping) and schema.get("$ref") == "#":
            violations.add(path[0], 'its schema is "$ref": "#", which refers to itself; describe a value')


def _check_sequences(body: Mapping[str, Any], violations: Violations) -> None:
    prompt, counts = body.get("prompt"), [body.get("n"), body.get("best_of")]
    num_prompts = len(prompt) if isinstance(prompt, list) and any(isinstance(one, str | list) for one in prompt) else 1
    num_sequences = num_prompts * max([1, *(count for count in counts if isinstance(count, int))])
    if num_sequences > MAX_SEQUENCES:
        problem = f"{num_prompts} prompts times n are {str(num_sequences)[:40]} sequences; the limit is {MAX_SEQUENCES}"
        violations.add("prompt", problem)


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
    _check_self_references(body, violations)
    for name in ("bad_words", "allowed_token_ids", "stop_token_ids"):
        _check_length(body.get(name), name, MAX_LIST_ENTRIES, violations)
    if isinstance(body.get("structured_outputs"), Mapping):
        _check_structure(body["structured_outputs"], violations)
    if "prompt" in body:
        _check_sequences(body, violations)
    violations.raise_any()


def _check_at_most(value: object, name: str, limit: int, violations: Violations) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > limit:
        violations.add(name, f"is {str(value)[:40]}; the limit is {limit}")


def _check_length(value: object, name: str, limit: int, violations: Violations) -> None:
    if isinstance(value, Sequence | Mapping) and len(value) > limit:
        violations.add(name, f"has {len(value)} entries; the limit is {limit}")
