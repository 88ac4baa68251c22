"""Replies held to a form: what cannot be kept is refused with the keyword and its place, the same over both fronts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema
import pytest

from graft.client import Client, InvalidArgument
from tests.cases.harness.wire import HttpCase, check_http
from tests.running import Server

FIELD = "response_format.json_schema.schema"
CHAT = {"messages": [{"role": "user", "content": "12+39?"}]}
TOKENS = 120


def wanted(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}}


def text_of(reply: Mapping[str, Any]) -> str:
    (choice,) = reply["choices"]
    assert choice["finish_reason"] == "stop", choice
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def valid(schema: Any) -> Callable[[Any], None]:
    def check(reply: Any) -> None:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text_of(reply)))

    return check


def cut_at(stop: str) -> Callable[[Any], None]:
    def check(reply: Any) -> None:
        assert stop not in text_of(reply)
        assert reply["choices"][0]["stop_reason"] == stop

    return check


def kept(name: str, schema: Any) -> list[HttpCase]:
    ask = {**wanted(schema), "max_tokens": TOKENS}
    return [
        HttpCase(id=f"S22 {name}", body={"prompt": "a", **ask}, check=valid(schema)),
        HttpCase(id=f"S22 {name}, in chat", path="/v1/chat/completions", body={**CHAT, **ask}, check=valid(schema)),
    ]


def refused(name: str, schema: Any, *says: str) -> HttpCase:
    return HttpCase(id=f"S22b {name}", body={"prompt": "a", **wanted(schema)}, status=400, param=FIELD, says=says)


def malformed(name: str, wish: Mapping[str, Any], param: str, *says: str) -> HttpCase:
    return HttpCase(id=f"S22b {name}", body={"prompt": "a", **wish}, status=400, param=param, says=says)


SCHEMAS: dict[str, Any] = {
    "required without properties": {"required": ["a", "b"]},
    "uniqueItems without type": {"uniqueItems": True, "items": {"enum": ["x", "y", "z"]}, "minItems": 1},
    "minimum without type": {"minimum": 5},
    "maxLength without type": {"maxLength": 3},
    "pattern without type": {"pattern": "^[ab]+$"},
    "not": {"not": {"type": ["string", "object", "array"]}},
    "allOf": {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}}, {"required": ["a"]}]},
    "multipleOf": {"type": "integer", "multipleOf": 7, "minimum": 1},
    "pattern beside maxLength": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 4},
}
PLACES: dict[str, tuple[Any, str, str]] = {
    "uniqueItems of any kind": (
        {"properties": {"t": {"type": "array", "uniqueItems": True}}},
        "#/properties/t/uniqueItems",
        "`enum`",
    ),
    "look-around": ({"items": {"type": "string", "pattern": "(?<=a)b"}}, "#/items/pattern", "look-around"),
    "a broken schema": ({"properties": {"a": {"type": "strin"}}}, "#/properties/a/type", "strin"),
    "a broken pattern": ({"pattern": "["}, "#/pattern", "not a regular expression"),
    "nothing fits": (
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        "no value fits",
        "excludes itself",
    ),
    "false": (False, "no value fits", "excludes itself"),
    "a reference to nothing": ({"$ref": "#/$defs/a"}, "#/$ref", "`$defs`"),
}
CASES = [
    *(case for name, schema in SCHEMAS.items() for case in kept(name, schema)),
    *(refused(name, schema, *says) for name, (schema, *says) in PLACES.items()),
    malformed(
        "no json_schema", {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"
    ),
    malformed(
        "no schema", {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, FIELD, "json_object"
    ),
    refused("a schema that is a list", [], "must be an object"),
    refused("a schema that is text", "{}", "must be an object"),
    malformed("an unknown format", {"response_format": {"type": "yaml"}}, "response_format.type", "json_object"),
    malformed(
        "a broken regex",
        {"structured_outputs": {"regex": "b(a"}},
        "structured_outputs.regex",
        "enforced: unclosed group: (",
    ),
    malformed(
        "a regex that ends in a backslash",
        {"structured_outputs": {"regex": "a\\"}},
        "structured_outputs.regex",
        "backslash",
    ),
    malformed(
        "an unknown name in a grammar",
        {"structured_outputs": {"grammar": 'start: a\na: "x" b'}},
        "structured_outputs.grammar",
        "enforced: at line 2, column 4: unknown name",
    ),
    malformed("an empty choice", {"structured_outputs": {"choice": []}}, "structured_outputs.choice", "one text"),
    malformed("two forms", {"structured_outputs": {"choice": ["a"], "regex": "a"}}, "structured_outputs", "and"),
    malformed(
        "a form twice",
        {"structured_outputs": {"choice": ["a"]}, "response_format": {"type": "json_object"}},
        "structured_outputs",
        "response_format",
    ),
    malformed(
        "a broken grammar", {"structured_outputs": {"grammar": "root ::= ("}}, "structured_outputs.grammar", "grammar"
    ),
    malformed(
        "tags of another kind",
        {"response_format": {"type": "structural_tag", "format": {"type": "any_text"}}},
        "response_format",
        "`structures`",
    ),
    *kept("the schema true", True),
    *kept("the empty schema", {}),
    HttpCase(
        id="S22 an object",
        body={"prompt": "a", "max_tokens": TOKENS, "response_format": {"type": "json_object"}},
        check=valid({"type": "object"}),
    ),
    HttpCase(
        id="S22 an object, by vLLM's name",
        path="/v1/chat/completions",
        body={**CHAT, "max_tokens": TOKENS, "structured_outputs": {"json_object": True}},
        check=valid({"type": "object"}),
    ),
    HttpCase(
        id="S22 a schema as text",
        body={"prompt": "a", "max_tokens": TOKENS, "structured_outputs": {"json": '{"minimum":5}'}},
        check=valid({"minimum": 5}),
    ),
    HttpCase(
        id="S22 a stop text of the caller's cuts a form, too, and is named",
        body={"prompt": "a", "max_tokens": TOKENS, **wanted({"type": "object", "required": ["a"]}), "stop": "a"},
        check=cut_at("a"),
    ),
    HttpCase(
        id="S22 a choice",
        body={"prompt": "a", "max_tokens": TOKENS, "structured_outputs": {"choice": ["yes", "no"]}},
        check=lambda reply: text_of(reply) in ("yes", "no") or pytest.fail(str(reply)),
    ),
    HttpCase(
        id="S22 a regular expression",
        body={"prompt": "a", "max_tokens": TOKENS, "structured_outputs": {"regex": "[0-9]{3}-[a-z]{2}"}},
        check=lambda reply: re.fullmatch("[0-9]{3}-[a-z]{2}", text_of(reply)) or pytest.fail(str(reply)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_schemas(case: HttpCase, server: Server) -> None:
    check_http(case, server)


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items(), ids=SCHEMAS.keys())
def test_schemas_over_grpc(name: str, schema: Any, client: Client, two_versions: str) -> None:
    reply = client.generate("a", model=two_versions, max_tokens=TOKENS, json_schema=schema)
    (choice,) = reply.choices
    assert choice.finish_reason == "stop", choice
    jsonschema.Draft202012Validator(schema).validate(json.loads(choice.text))


@pytest.mark.parametrize(("schema", "place", "says"), PLACES.values(), ids=PLACES.keys())
def test_refusals_have_the_same_words_over_grpc(
    schema: Any, place: str, says: str, client: Client, server: Server
) -> None:
    if not isinstance(schema, dict):
        pytest.skip("the client's schemas are objects")
    with pytest.raises(InvalidArgument) as error:
        client.generate("a", max_tokens=4, json_schema=schema)
    assert place in str(error.value) and says in str(error.value)
    reply = check_http(refused("", schema, place, says), server).json()["error"]["message"]
    assert reply.removeprefix(FIELD) in str(error.value)
