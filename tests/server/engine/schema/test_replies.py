"""Whatever a grammar writes is valid under the schema that it is of, by jsonschema; and it is written to its end."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.patterns.patterns import accepts
from graft.server.engine.schema.refusal import SchemaRefused
from tests.server.engine.schema.generator import Generator
from tests.server.engine.schema.replies import drawn

ROOM = 250


def problems(schema: dict[str, Any], reply: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(json.loads(reply))]


@pytest.mark.parametrize("block", range(4))
def test_replies_are_valid_and_end(block: int) -> None:
    refused = unfinished = 0
    seeds = range(block * 30, block * 30 + 30)
    for seed in seeds:
        schema = Generator(seed).root()
        try:
            grammar = JsonSchema(schema).grammar(ROOM)
        except SchemaRefused:
            refused += 1
            continue
        reply = drawn(grammar, seed, ROOM + 50)
        if reply is None:
            unfinished += 1
        else:
            assert problems(schema, reply) == [], f"{json.dumps(schema)} -> {reply}"
    assert refused <= 6 and unfinished <= 3, (refused, unfinished)


@pytest.mark.parametrize("block", range(2))
def test_nothing_of_the_strict_subset_is_refused(block: int) -> None:
    for seed in range(block * 30, block * 30 + 30):
        schema = Generator(seed, strict=True).root()
        reply = drawn(JsonSchema(schema).grammar(ROOM), seed, ROOM + 50)
        assert reply is not None and problems(schema, reply) == [], f"{json.dumps(schema)} -> {reply}"


# What generators seldom hit: each with values that must, and values that must not, be written.
EXACT: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "required without properties": ({"required": ["a"]}, [{"a": 1}, 3], [{}]),
    "a minimum of any type": ({"minimum": 3}, [3, "x", None], [2, -5]),
    "a pattern of any type": ({"pattern": "^a"}, ["ab", 1], ["ba"]),
    "not a type": ({"not": {"type": "string"}}, [1, None], ["a", ""]),
    "not a value": ({"type": "integer", "not": {"enum": [1, 5]}}, [0, 2, 6], [1, 5]),
    "not a pattern": ({"type": "string", "not": {"pattern": "a"}}, ["b", ""], ["a", "bab"]),
    "bounds of multiples": ({"type": "integer", "multipleOf": 7, "minimum": 10, "maximum": 30}, [14, 28], [7, 15, 35]),
    "a pattern and a length": ({"type": "string", "pattern": "^a+$", "maxLength": 3}, ["a", "aaa"], ["", "aaaa", "b"]),
    "choices that overlap": ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2.5, "a"], [3, 1.5]),
    "an open bound": ({"type": "number", "exclusiveMaximum": 1, "minimum": 0}, [0, 0.5, 0.9999], [1, -0.1]),
    "items that differ": ({"items": {"enum": [1, 2, 3]}, "uniqueItems": True, "type": "array"}, [[3, 1], []], [[1, 1]]),
    "what an array contains": (
        {"type": "array", "contains": {"const": 1}, "maxContains": 1, "maxItems": 3},
        [[1], [1, 2]],
        [[], [1, 1], [2]],
    ),
    "what it contains is judged": (
        {"type": "array", "contains": {"const": 1}, "unevaluatedItems": {"const": 2}, "minItems": 2, "maxItems": 3},
        [[1, 2], [1, 1], [1, 2, 2]],
        [[2, 2], [1, 3], [1]],
    ),
    "a name that asks for another": (
        {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
        [{}, {"b": 1}, {"a": 1, "b": 1}],
        [{"a": 1}],
    ),
    "a condition": (
        {
            "type": "object",
            "properties": {"k": {"enum": ["x", "y"]}, "v": {}},
            "required": ["k"],
            "if": {"properties": {"k": {"const": "x"}}},
            "then": {"required": ["v"]},
        },
        [{"k": "y"}, {"k": "x", "v": 1}],
        [{"k": "x"}, {}],
    ),
    "names by pattern": (
        {"type": "object", "patternProperties": {"^n": {"type": "integer"}}, "additionalProperties": {"type": "null"}},
        [{"n": 1, "m": None}, {}],
        [{"n": None}, {"m": 1}],
    ),
    "nothing else": (
        {
            "allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}],
            "unevaluatedProperties": False,
        },
        [{"a": 1, "b": 2}, {}],
        [{"c": 1}, {"a": 2}],
    ),
}


@pytest.mark.parametrize(("schema", "right", "wrong"), EXACT.values(), ids=EXACT.keys())
def test_what_is_written(schema: dict[str, Any], right: list[Any], wrong: list[Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    assert all(validator.is_valid(value) for value in right) and not any(validator.is_valid(value) for value in wrong)
    grammar = JsonSchema(schema).grammar(ROOM)
    texts = {json.dumps(value, separators=(",", ":")): value in right for value in right + wrong}
    assert {text: accepts(grammar, text) for text in texts} == texts


REFUSED: dict[str, tuple[Any, str, str]] = {
    "items that differ, of any kind": (
        {"properties": {"t": {"uniqueItems": True}}},
        "#/properties/t/uniqueItems",
        "`enum`",
    ),
    "look-ahead": ({"items": {"pattern": "(?=a)b"}}, "#/items/pattern", "(?=a)b"),
    "a broken pattern": ({"pattern": "(a"}, "#/pattern", "not a regular expression"),
    "a format without a grammar": ({"properties": {"r": {"format": "regex"}}}, "#/properties/r/format", "`regex`"),
    "a type that is none": ({"properties": {"a": {"type": "strin"}}}, "#/properties/a/type", "strin"),
    "a reference elsewhere": ({"$ref": "https://example.org/x"}, "#/$ref", "`$defs`"),
    "a reference to nothing": ({"items": {"$ref": "#/$defs/no"}}, "#/items/$ref", "#/$defs/no"),
    "nothing fits": (False, "", "no value fits"),
    "nothing fits inside": (
        {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["a"]},
        "#/properties/a",
        "no value fits",
    ),
    "itself": ({"allOf": [{"$ref": "#"}]}, "", "refers to itself"),
    "what a conditional forbids": ({"not": {"propertyNames": {"maxLength": 3}}}, "#/not/propertyNames", "not"),
    "a format beside what it must not be": (
        {"properties": {"d": {"allOf": [{"format": "date"}, {"not": {"const": "2026-01-01"}}], "type": "string"}}},
        "#/properties/d",
        "`format`",
    ),
    "an old standard": ({"$schema": "http://json-schema.org/draft-04/schema#"}, "#/$schema", "2020-12"),
}


@pytest.mark.parametrize(("schema", "place", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_names_the_keyword_and_its_place(schema: Any, place: str, says: str) -> None:
    with pytest.raises(SchemaRefused) as refused:
        JsonSchema(schema).grammar(ROOM)
    assert place in str(refused.value) and says in str(refused.value)
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"allOf": [{"anyOf": [{"minimum": i}, {"maxLength": i}, {"minItems": i}]} for i in range(1, 40)]},
        {"oneOf": [{"required": [f"a{i}", f"b{i}"]} for i in range(60)]},
        {"type": "string", "pattern": "(a|a?)+" * 200},
        {"properties": {"a" * 60: {"not": {"pattern": "(a+)+$"}}}, "patternProperties": {"(a+)+b": True}},
        {"type": "array", "maxItems": 4096, "items": {"type": "array", "maxItems": 4096, "items": {"minimum": 0.001}}},
        {"properties": {f"p{i}": {"$ref": "#"} for i in range(40)}, "required": ["p1"]},
        {"multipleOf": 1e-300},
        {"multipleOf": 10**400},
        {"minimum": 10**400, "maximum": 10**401},
        {"minimum": -1e308, "maximum": 1e308, "exclusiveMinimum": 5e-324},
        {"type": "string", "maxLength": 2**53, "pattern": "^a*$"},
        {"type": "array", "maxItems": 2**53, "contains": {"const": 1}, "maxContains": 2**53, "minItems": 4096},
        {"type": "array", "contains": {"const": 1}, "minContains": 4096},
        {"type": "object", "minProperties": 4096},
        {"type": "object", "maxProperties": 2**53, "properties": {"a": {}}},
    ],
)
def test_no_schema_is_worked_on_without_end(schema: dict[str, Any]) -> None:
    """It is written, or refused; what matters is that this comes to an end."""
    try:
        JsonSchema(schema).grammar(ROOM)
    except SchemaRefused as error:
        assert len(str(error)) < 400


@pytest.mark.parametrize("required", [0, 500, 744, 1000])
@pytest.mark.parametrize("counted", [{}, {"maxProperties": 1000}], ids=["any number", "counted"])
def test_a_thousand_properties_are_no_thousand_calls_deep(required: int, counted: dict[str, Any]) -> None:
    names = [f"p{index}" for index in range(1000)]
    schema = {"type": "object", "properties": {name: {"const": 1} for name in names}, "required": names[:required]}
    try:
        grammar = JsonSchema({**schema, **counted}).grammar(30_000)
    except SchemaRefused as error:
        assert "not required" in str(error) if required < 744 else counted and "too large" in str(error)
        return
    assert accepts(grammar, json.dumps(dict.fromkeys(names, 1), separators=(",", ":")))
