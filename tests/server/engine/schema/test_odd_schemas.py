"""Schemas that nobody writes by accident: each is kept, or refused with its keyword and place, for bounded work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graft.server.engine.engine import InvalidRequest
from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.reading import reading, values
from graft.server.engine.schema.reading.document import Document
from graft.server.engine.schema.reading.membership import fits
from graft.server.engine.schema.reading.reading import MAX_WORK, Reader
from graft.server.engine.schema.structured_outputs import check_schema_text
from tests.cases.harness.words import faults_of

FIELD = "sampling.json_schema"


def _chain(length: int, **others: Any) -> dict[str, Any]:
    links = {f"a{i}": {"$ref": f"#/$defs/a{i + 1}", **others} for i in range(length)}
    return {"$ref": "#/$defs/a0", "$defs": {**links, f"a{length}": {"type": "integer"}}}


def _required_chain(length: int) -> dict[str, Any]:
    links = {
        f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}, "required": ["x"], "type": "object"}
        for i in range(length)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**links, f"a{length}": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "place", "says"),
    [
        (_chain(400), "#/$defs/a", "more than 64 schemas"),
        (_required_chain(400), "#/$defs/a", "more than 64 schemas"),
        ({"$defs": _chain(400)["$defs"], "not": {"$ref": "#/$defs/a0"}}, "#/$defs/a", "more than 64"),
        ({"$id": "http://[", "type": "integer"}, "#/$id", "`http://[` is no URI reference"),
        (
            {"$id": "http://a/", "properties": {"b": {"$id": "http://[", "type": "integer"}}},
            "#/properties/b/$id",
            "no URI reference",
        ),
        (
            {"$defs": {"a": {"$schema": "http://json-schema.org/draft-04/schema#", "not": False}}},
            "#/$defs/a/$schema",
            "another standard",
        ),
        ({"properties": {"a\nb": {"minimum": 10**999}}}, "#/properties/a\\nb/minimum", "1.8e308"),
        ({"type": "integer", "minimum": 10**999}, "#/minimum", "1.8e308"),
        ({"not": {"exclusiveMaximum": -(10**400)}}, "#/not/exclusiveMaximum", "1.8e308"),
        ({"type": "number", "minimum": 1e308, "multipleOf": 0.5}, "at `#`", "`multipleOf` 0.5 is not enforced"),
    ],
    ids=[
        "references",
        "required",
        "within-not",
        "id",
        "id-below",
        "another-standard",
        "line-end",
        "digits",
        "digits-in-not",
        "quotient",
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place(schema: Any, place: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_schema_text(json.dumps(schema), FIELD)
    message = str(error.value)
    assert message.startswith(f"{FIELD}: ") and place in message and says in message
    assert not faults_of(message) and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    "schema",
    [
        _chain(40),
        _required_chain(20),
        {"type": "number", "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308},
        {"const": {"$id": "http://["}},
    ],
    ids=["references", "required", "doubles", "an id that is data"],
)
def test_what_is_only_large_is_kept(schema: Any) -> None:
    check_schema_text(json.dumps(schema), FIELD)


@pytest.mark.parametrize(
    ("items", "differ"),
    [
        ([1, 1.0], False),
        ([1, True], True),
        ([0, False, "", None, [], {}], True),
        ([{"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}], False),
        ([[1, 2], [2, 1]], True),
        ([0, -0.0], False),
        (["1", 1], True),
    ],
    ids=str,
)
def test_items_differ_as_the_standard_compares_them(items: list[Any], differ: bool) -> None:
    reader = Reader(Document({"type": "array", "uniqueItems": True}))
    assert fits(reader, reader.root, items) is differ


def test_items_are_not_compared_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Any] = []
    monkeypatch.setattr(values, "plain", lambda value: written.append(value) or value)
    reader = Reader(Document({"type": "array", "uniqueItems": True}))
    assert fits(reader, reader.root, list(range(500)))
    assert len(written) <= 10 * 500


@pytest.mark.parametrize(
    "schema",
    [
        {"const": list(range(1_500)), "anyOf": [{"type": "array", "maxItems": 1_500 + i} for i in range(900)]},
        {
            "properties": {f"a{i}": {} for i in range(900)},
            "patternProperties": {f"b{i}": {} for i in range(900)},
        },
        {"enum": [{f"b{i}": 1} for i in range(900)], "patternProperties": {f"a{i}": {} for i in range(900)}},
    ],
    ids=["items", "names", "values"],
)
def test_much_is_worked_out_only_up_to_a_limit(schema: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []
    monkeypatch.setattr(reading, "matches", lambda pattern, text: searched.append(text) or False)
    with pytest.raises(InvalidRequest, match="too many alternatives taken together; make it smaller"):
        check_schema_text(json.dumps(schema), FIELD)
    assert len(searched) <= MAX_WORK / 10


def test_a_schema_that_is_written_often_does_not_run_out_of_work() -> None:
    properties = {f"a{i}": {"type": "string"} for i in range(100)}
    names = {"enum": [*properties, "b"]}
    schema = JsonSchema({"properties": properties, "propertyNames": names, "patternProperties": {"b": {"const": 1}}})
    for room in range(100, 40_000, 300):
        schema.grammar(room)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"p{i}": {"type": "string", "enum": [f"v{j}" for j in range(100)]} for i in range(100)}},
        {"properties": {f"p{i}": {"enum": [f"v{j}" for j in range(100)]} for i in range(100)}},
        {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": f"k{i}"}}, "required": ["kind"]} for i in range(60)
            ]
        },
    ],
    ids=["a hundred enumerations", "without type", "a union told apart by one property"],
)
def test_large_but_ordinary_schemas_are_taken(schema: dict[str, Any]) -> None:
    assert JsonSchema(schema).grammar(1_000)
