"""Bounds on what one OpenAI request may ask of the grammar compiler and of the scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from graft.server.api.openai_fields import CHAT, COMPLETIONS
from graft.server.api.openai_request import checked
from graft.server.api.text import Text
from graft.server.errors import BadInput
from tests.server.api.scripted import ScriptedTokenizer


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
        {"bad_words": ["a"] * 1025},
        {"stop_token_ids": [1] * 1025},
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


def test_the_place_is_named() -> None:
    with pytest.raises(BadInput) as error:
        check(_schema({"properties": {"a": {"enum": list(range(1001))}}}))
    (violation,) = error.value.violations
    assert violation.field == "response_format.json_schema.schema" and "#/properties/a/enum" in violation.problem
