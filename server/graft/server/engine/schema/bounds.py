"""Bounds on schemas and patterns that callers bring, checked before anything is made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from graft.server.engine.schema.refusal import escaped
from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import Violations

MAX_SCHEMA_DEPTH = 32
MAX_SCHEMA_NODES = 5_000
MAX_ENUM_VALUES = 1_000
MAX_PROPERTIES = 1_000
MAX_PATTERN_CHARACTERS = 2_000
MAX_REPETITION = 100
MAX_REPETITION_PRODUCT = 1_000
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
        violations.add(field, too_long(len(text)))
        return
    try:
        check_json_schema(read_json(text), field, violations)
    except BadJson as error:
        violations.add(field, str(error))


def too_long(num_characters: int) -> str:
    """What is wrong with a text of so many characters."""
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
                violations.add(field, too_long(num_characters))
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
            check_pattern(pattern, field, violations)


def check_pattern(text: str, field: str, violations: Violations) -> None:
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
