"""Forms that are no JSON schema, and how much room a reply has."""

from __future__ import annotations

from typing import Any

import pytest

from graft.server.engine.engine import InvalidRequest
from graft.server.engine.schema.other_grammars import choice_fault, grammar_fault, regex_fault, tags_grammar
from graft.server.engine.schema.patterns.patterns import accepts
from graft.server.engine.schema.refusal import SchemaRefused
from graft.server.engine.schema.structured_outputs import check_schema_text, check_structure, structure_of, with_grammar

CALL = {
    "begin": "<call=add>",
    "schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("no call", True),
        ('so <call=add>{"a":1}</call> it is', True),
        ('<call=add>{"a":1}</call><call=say>"hi"</call>', True),
        ('<call=add>{"a":"x"}</call>', False),
        ('<call=add>{"a":1}', False),
        ("<call=other>1</call>", False),
    ],
)
def test_tags(text: str, right: bool) -> None:
    structures = [{**CALL, "end": "</call>"}, {"begin": "<call=say>", "schema": {"type": "string"}, "end": "</call>"}]
    grammar = tags_grammar({"structures": structures, "triggers": ["<call="]}, 300)
    assert accepts(grammar, text) == right


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"structures": [], "triggers": ["<"]}, "`structures`"),
        ({"structures": [CALL], "triggers": ["["]}, "`triggers`"),
        ({"structures": [{"begin": 1}], "triggers": ["<"]}, "`begin`"),
        ({"structures": [{**CALL, "schema": {"uniqueItems": True}}], "triggers": ["<"]}, "#/structures/0/schema"),
    ],
)
def test_tags_that_cannot_be(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(SchemaRefused, match=says.replace("[", r"\[")):
        tags_grammar(wanted, 300)


@pytest.mark.parametrize("regex", ["(a", "(?=a)b", "a\0", "[z-a]", 5, r"(a)\1"])
def test_regular_expressions_that_cannot_be(regex: Any) -> None:
    fault = regex_fault(regex)
    assert fault and "\n" not in fault and len(fault) < 300


def test_what_the_engine_reads_itself() -> None:
    assert not regex_fault(r"[0-9]{3}-\w+") and not choice_fault(["a", "b"]) and not grammar_fault('root ::= "a"')
    assert (
        choice_fault("a") and choice_fault([]) and choice_fault([1]) and grammar_fault(" ") and grammar_fault("x ::= (")
    )


def test_a_reply_fits_into_its_tokens() -> None:
    wanted = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "string"}}}}

    def takes(length: int, body: dict[str, Any], left_tokens: int = 1000, characters: float = 1.0) -> bool:
        grammar = with_grammar({**wanted, **body}, left_tokens=left_tokens, characters_per_token=characters)
        return accepts(str(grammar["structured_outputs"]["grammar"]), '"' + "a" * length + '"')

    chat = {"messages": [], "max_completion_tokens": 900}
    assert takes(70, {"max_tokens": 100}) and not takes(100, {"max_tokens": 100})
    assert takes(10, {"prompt": "a"}) and not takes(16, {"prompt": "a"})  # OpenAI's default for completions
    assert takes(400, chat, left_tokens=500) and not takes(500, chat, left_tokens=500)
    assert takes(400, {"max_tokens": 100}, characters=5.0) and not takes(500, {"max_tokens": 100}, characters=5.0)


@pytest.mark.parametrize("body", [{}, {"response_format": {"type": "text"}}, {"response_format": None}])
def test_plain_text_has_no_form(body: dict[str, Any]) -> None:
    assert structure_of(body) is None
    assert with_grammar({"n": 2, **body}, left_tokens=9, characters_per_token=1.0) == {"n": 2}


@pytest.mark.parametrize("kind", ["text", "json_object"])
def test_a_schema_beside_another_type_is_named(kind: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        structure_of({"response_format": {"type": kind, "json_schema": {"schema": {}}}})
    assert error.value.field == "response_format.json_schema"


@pytest.mark.parametrize(
    "beside", [{"min_tokens": 5}, {"allowed_token_ids": [1]}, {"bad_words": ["a"]}, {"ignore_eos": True}]
)
def test_what_works_against_a_form_is_named(beside: dict[str, Any]) -> None:
    body = {"structured_outputs": {"choice": ["a"]}, "min_tokens": 1}
    check_structure(body)
    with pytest.raises(InvalidRequest) as error:
        check_structure({**body, **beside})
    assert error.value.field == next(iter(beside))
    with pytest.raises(InvalidRequest) as error:
        check_schema_text("{}", "sampling.json_schema", ignore_eos=True)
    assert error.value.field == "sampling.ignore_eos"


def test_switches_of_the_engines_own_compiler() -> None:
    wanted = {"json": {"type": "integer"}, "disable_any_whitespace": True, "whitespace_pattern": None}
    assert structure_of({"structured_outputs": wanted}) is not None
    with pytest.raises(InvalidRequest) as error:
        structure_of({"structured_outputs": {**wanted, "whitespace_pattern": " ?"}})
    assert error.value.field == "structured_outputs.whitespace_pattern"


def test_a_field_that_is_no_object_is_named() -> None:
    with pytest.raises(InvalidRequest) as error:
        structure_of({"structured_outputs": ["json"]})
    assert error.value.field == "structured_outputs" and "must be an object" in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"type": "json_object", "schema": {"type": "object"}}, "schema"),
        ({"type": "json_object", "json_schema": {"name": "x", "schema": {}}}, "json_schema"),
        ({"type": "text", "schema": {}}, "schema"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {}}, "strict": True}, "strict"),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "mode": 1}}, "json_schema.mode"),
    ],
)
def test_what_would_be_dropped_is_named(wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        check_structure({"response_format": wanted})
    assert error.value.field == f"response_format.{field}"


def test_what_openai_knows_of_a_schema_is_taken() -> None:
    described = {"name": "x", "description": "y", "schema": {"type": "object"}, "strict": True}
    check_structure({"response_format": {"type": "json_schema", "json_schema": described}})


@pytest.mark.parametrize(
    "grammar",
    [
        *("root ::= root", 'root ::= "a" root', 'start: "a" start', 'start: a\na: "x" b\nb: "y" a'),
        *('start: ("a" | "b") start+', "start: A\nA: /[^\\s\\S]/", 'start: "a" x\n  | x\nx: x "b" | start'),
        *('root ::= x | y "a"\nx ::= "(" x ")"\ny ::= [a-z] y', 'start: x{2}\nx: "a" x'),
    ],
)
def test_a_grammar_without_an_end_is_refused(grammar: str) -> None:
    assert "no text" in grammar_fault(grammar)


@pytest.mark.parametrize("regex", [r"[^\s\S]", r"a[^\s\S]", r"[^\s\S]+"])
def test_a_regular_expression_without_a_text_is_refused(regex: str) -> None:
    assert "no text" in regex_fault(regex)


@pytest.mark.parametrize(
    "grammar",
    [
        *('start: "a" start?', 'start: "a" start | "b"', 'start: x*\nx: "a" x', 'start: x{0,2} "c"\nx: "a" x'),
        *('start: A b\nA: /a+/\nb: (A | b) B | \nB: "b"i', 'start: "(" start ")" | // a comment\n  | "x"'),
        *('start: %json {"type": "object"} | "a" start', 'root ::= [a-z] ("b" | ws)+ # c\nws ::= [ \\t]*'),
        'root ::= value\nvalue ::= "[" (value ("," value)*)? "]" | [0-9]+',
    ],
)
def test_a_grammar_with_an_end_is_taken(grammar: str) -> None:
    assert not grammar_fault(grammar)
