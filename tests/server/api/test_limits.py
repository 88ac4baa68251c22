"""Bounds on what one OpenAI request may ask of the grammar compiler and of the scheduler."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graft.server.api.grpc.inference_messages import sampling_of
from graft.server.api.http.openai_fields import CHAT, COMPLETIONS
from graft.server.api.http.openai_request import checked
from graft.server.engine.schema import bounds
from graft.server.engine.text import Text
from graft.server.errors import BadInput
from graft.server.runtime.violations import Violations
from graft.v1 import inference_pb2 as pb
from tests.server.api.scripted.engine import ScriptedTokenizer


def check(fields: dict[str, Any]) -> None:
    text = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=8192)
    chat = "tools" in fields
    prompt = {"messages": [{"role": "user", "content": "x"}]} if chat else {"prompt": "x"}
    checked({"model": "m", **prompt, **fields}, CHAT if chat else COMPLETIONS, text)


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


@pytest.mark.parametrize(
    "body",
    [
        _schema({"properties": {f"p{index}": {} for index in range(1001)}}),
        _schema({"enum": list(range(1001))}),
        _schema({"prefixItems": [{"const": index} for index in range(2501)]}),
        _schema({"$ref": "#"}),
        _schema({"maxItems": 10**400}),
        _schema({"pattern": "a{101}"}),
        _schema({"pattern": "((a{20}){,20}){3}"}),
        {"tools": [{"function": {"parameters": {"$ref": "#"}}}]},
        {"structured_outputs": {"regex": "a" * 2001}},
        {"structured_outputs": {"regex": "a{1,101}"}},
        {"structured_outputs": {"json": '{"$ref": "#"}'}},
        {"structured_outputs": {"json": {"$ref": "#"}}},
        {"structured_outputs": {"choice": ["a"] * 1025}},
        {"structured_outputs": {"choice": ["a" * 65_537]}},
        {"bad_words": ["a"] * 1025},
        {"bad_words": ["a" * 64] * 65},
        {"stop_token_ids": [1] * 101},
        {"prompt": ["a"] * 129},
        {"prompt": [[1]] * 3, "n": 43},
        {"n": 10**400},
    ],
)
def test_what_is_beyond_a_bound_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        check(body)


@pytest.mark.parametrize(
    "body",
    [
        _schema({"properties": {"children": {"items": {"$ref": "#"}}, "zip": {"pattern": r"^\d{5}\{500\}$"}}}),
        {"structured_outputs": {"regex": "(a{10}){100}", "choice": ["a"] * 1024}},
        _schema({"maxLength": 10**6, "maxItems": 10**6, "maxProperties": 10**6}),
        _schema({"enum": [f"v{index}" for index in range(1000)]}),
        _schema({"properties": {f"p{i}": {"type": "string"} for i in range(1000)}, "required": ["p1"] * 1000}),
        {"prompt": [1] * 4000, "n": 64},
        {"prompt": ["a"] * 64, "n": 2},
    ],
)
def test_what_is_within_them_is_taken(body: dict[str, Any]) -> None:
    check(body)


def _nested(levels: int) -> Any:
    schema: Any = {"type": "integer"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def _tag(schema: Any) -> dict[str, Any]:
    return {"structures": [{"begin": "<a>", "schema": schema, "end": "</a>"}], "triggers": ["<a>"]}


WAYS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "response_format": _schema,
    "a tag of response_format": lambda schema: {"response_format": {"type": "structural_tag", **_tag(schema)}},
    "json": lambda schema: {"structured_outputs": {"json": schema}},
    "json as text": lambda schema: {"structured_outputs": {"json": json.dumps(schema)}},
    "structural_tag": lambda schema: {"structured_outputs": {"structural_tag": _tag(schema)}},
    "structural_tag as text": lambda schema: {"structured_outputs": {"structural_tag": json.dumps(_tag(schema))}},
    "gRPC": lambda schema: {"json_schema": json.dumps(schema)},
}


def check_way(fields: dict[str, Any]) -> None:
    if "json_schema" not in fields:
        check(fields)
        return
    violations = Violations()
    sampling_of(pb.GenerateRequest(sampling=pb.Sampling(json_schema=fields["json_schema"])), violations)
    violations.raise_any()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (_nested(40), "nested deeper than 32"),
        ({"prefixItems": [{"const": index} for index in range(2501)]}, "more than 5000 parts"),
        ({"enum": list(range(1001))}, "enum has 1001 entries; the limit is 1000"),
        ({"pattern": "a{101}"}, "the limit is 100 times"),
        ({"description": "x" * 65_536}, "characters; the limit is 65536"),
    ],
    ids=["deep", "wide", "enum", "pattern", "long"],
)
def test_a_schema_has_the_same_bounds_whichever_way_it_comes(
    way: Callable[[Any], dict[str, Any]], schema: Any, says: str
) -> None:
    check_way(way({"items": _nested(10), "description": "x" * 3_000}))
    with pytest.raises(BadInput, match=says):
        check_way(way(schema))


@pytest.mark.parametrize("name", ["json as text", "structural_tag as text", "gRPC"])
def test_a_schema_that_is_too_long_is_not_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = WAYS[name]({"description": "x" * 65_536})
    monkeypatch.setattr(bounds, "read_json", lambda text: pytest.fail("it was read"))
    with pytest.raises(BadInput, match="the limit is 65536"):
        check_way(fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"minimum": ' + "9" * 4_400 + "}", "of 4400 digits; at most 1000 are read"),
        ('{"minimum": 1e999}', "1e999, which is not a finite number"),
        ('{"const": "\\ud800"}', "lone surrogate"),
        ('{"properties": {"\\udfff": {}}}', "lone surrogate"),
        ("{", "is not JSON"),
        ("[" * 60_000, "nested too deeply"),
    ],
)
def test_text_that_holds_no_schema_is_refused_in_the_same_words(text: str, says: str) -> None:
    for fields in ({"json_schema": text}, {"structured_outputs": {"json": text}}):
        with pytest.raises(BadInput, match=says):
            check_way(fields)


def test_the_place_is_named() -> None:
    with pytest.raises(BadInput) as error:
        check(_schema({"properties": {"a": {"enum": list(range(1001))}}}))
    (violation,) = error.value.violations
    assert violation.field == "response_format.json_schema.schema" and "#/properties/a/enum" in violation.problem
