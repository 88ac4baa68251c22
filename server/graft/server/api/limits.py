"""Bounds on what one request may ask for, the same over gRPC and HTTP, checked before the engine hears of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from graft.server.engine.schema.refusal import escaped
from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import Violations

T = TypeVar("T")

MAX_CHOICES = 64
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
MAX_LOGPROBS = 20
MAX_CONTINUATIONS = 256
MAX_MESSAGES = 4096
MAX_LOGIT_BIASES = 1024
MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_NODES = 5_000
MAX_ENUM_VALUES = 1_000
MAX_PROPERTIES = 1_000
MAX_PATTERN_CHARACTERS = 2_000
MAX_REPETITION = 100
MAX_REPETITION_PRODUCT = 1_000
MAX_LIST_ENTRIES = 1_024
MAX_SEQUENCES = 128
MAX_SCHEMA_CHARACTERS = 65_536
# What a reply must have at least it must have room for; what it may have at most is bounded by its tokens.
MAX_SCHEMA_COUNT = 4096
MAX_JSON_INTEGER = 2**53
_COUNT_LIMITS = {
    **dict.fromkeys(("minItems", "minLength", "minProperties", "minContains"), MAX_SCHEMA_COUNT),
    **dict.fromkeys(("maxItems", "maxLength", "maxProperties", "maxContains"), MAX_JSON_INTEGER),
}
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_REPETITION = re.compile(r"\{\s*(\d*)\s*(?:,\s*(\d*)\s*)?\}")


def check_schema_text(text: str, field: str, violations: Violations) -> None:
    """The bounds on a schema that comes as text; one that is too long is not read."""
    if len(text) > MAX_SCHEMA_CHARACTERS:
        violations.add(field, _too_long(len(text)))
        return
    try:
        check_json_schema(read_json(text), field, violations)
    except BadJson as error:
        violations.add(field, str(error))


def _too_long(num_characters: int) -> str:
    return f"has {num_characters} characters; the limit is {MAX_SCHEMA_CHARACTERS}"


def check_json_schema(
    schema: object, field: str, violations: Violations, *, max_characters: float = MAX_SCHEMA_CHARACTERS
) -> None:
    """Bounds on depth, size and repetition counts; what the schema means is the engine's to judge."""
    if not isinstance(schema, Mapping | bool):
        violations.add(field, "must be an object")
        return
    if isinstance(schema, Mapping) and schema.get("$ref") == "#":
        violations.add(field, 'is "$ref": "#", which refers to itself; describe a value')
    level: list[tuple[str, Any]] = [("", schema)]
    num_nodes = 1
    for _ in range(MAX_SCHEMA_DEPTH):
        num_nodes += sum(len(node) for _, node in level if isinstance(node, Mapping | list))
        if num_nodes > MAX_SCHEMA_NODES:
            violations.add(field, f"has more than {MAX_SCHEMA_NODES} parts")
            return
        for pointer, node in level:
            _check_counts(node, field, violations)
            _check_patterns(node, pointer, field, violations)
        level = [
            (f"{pointer}/{escaped(key)}"[:200], child) for pointer, node in level for key, child in _children(node)
        ]
        if not level:
            num_characters = len(json.dumps(schema, ensure_ascii=False))
            if num_characters > max_characters:
                violations.add(field, _too_long(num_characters))
            return
    violations.add(field, f"is nested deeper than {MAX_SCHEMA_DEPTH}")


def _children(node: object) -> list[tuple[Any, Any]]:
    if isinstance(node, Mapping):
        return list(node.items())
    if isinstance(node, list):
        return list(enumerate(node))
    return []


def _check_counts(node: object, field: str, violations: Violations) -> None:
    if not isinstance(node, Mapping):
        return
    for key, limit in _COUNT_LIMITS.items():
        count = node.get(key)
        if isinstance(count, int | float) and count > limit:
            violations.add(field, f"{key} is {str(count)[:40]}; the limit is {limit}")


def _check_patterns(node: object, pointer: str, field: str, violations: Violations) -> None:
    if not isinstance(node, Mapping):
        return
    values = node.get("enum")
    if isinstance(values, list) and len(values) > MAX_ENUM_VALUES:
        violations.add(field, f"at `#{pointer}/enum`: enum has {len(values)} entries; the limit is {MAX_ENUM_VALUES}")
    patterns = [node.get("pattern")]
    for key in ("properties", "patternProperties"):
        children = node.get(key)
        if not isinstance(children, Mapping):
            continue
        if len(children) > MAX_PROPERTIES:
            violations.add(
                field, f"at `#{pointer}/{key}`: {key} has {len(children)} entries; the limit is {MAX_PROPERTIES}"
            )
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
    for key, value in violations.until_full(wanted.items()):
        field = f"structured_outputs.{key[:40]}"
        if key in ("json", "structural_tag") and value is not None:
            check = check_schema_text if isinstance(value, str) else check_json_schema
            check(value, field, violations)
        elif key == "choice" and isinstance(value, list):
            _check_choice(value, field, violations)
        elif isinstance(value, str):
            _check_pattern(value, field, violations)


def _check_choice(texts: list[Any], field: str, violations: Violations) -> None:
    if len(texts) > MAX_LIST_ENTRIES:
        violations.add(field, f"has {len(texts)} entries; the limit is {MAX_LIST_ENTRIES}")
        return
    num_characters = sum(len(text) for text in texts if isinstance(text, str))
    if num_characters > MAX_SCHEMA_CHARACTERS:
        violations.add(field, _too_long(num_characters))


def _check_self_references(body: Mapping[str, Any], violations: Violations) -> None:
    for tool in body["tools"] if isinstance(body.get("tools"), list) else ():
        function = tool.get("function") if isinstance(tool, Mapping) else None
        schema = function.get("parameters") if isinstance(function, Mapping) else None
        if isinstance(schema, Mapping) and schema.get("$ref") == "#":
            violations.add("tools", 'its schema is "$ref": "#", which refers to itself; describe a value')


def _check_response_format(wanted: Mapping[str, Any], violations: Violations) -> None:
    described = wanted.get("json_schema")
    schema = described.get("schema") if isinstance(described, Mapping) else None
    if isinstance(described, Mapping) and isinstance(schema, Mapping):
        check_json_schema(schema, "response_format.json_schema.schema", violations)
        described = {key: value for key, value in described.items() if key != "schema"}
    check_json_schema({**wanted, "json_schema": described}, "response_format", violations)


def check_structures(body: Mapping[str, Any], violations: Violations) -> None:
    """Bounds on what a request says about the structure of its answer and of its tools."""
    if isinstance(body.get("tools"), Mapping | list):
        check_json_schema({"": body["tools"]}, "tools", violations, max_characters=math.inf)
    if isinstance(body.get("response_format"), Mapping):
        _check_response_format(body["response_format"], violations)
    _check_self_references(body, violations)
    if isinstance(body.get("structured_outputs"), Mapping):
        _check_structure(body["structured_outputs"], violations)
