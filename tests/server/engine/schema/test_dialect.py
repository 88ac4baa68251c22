"""Patterns mean what they mean in Python (and ECMA), though the automata's own dialect nests classes."""

from __future__ import annotations

import json
import re
import warnings

import jsonschema
import pytest

from graft.server.engine.schema.json_schema import JsonSchema
from graft.server.engine.schema.patterns.patterns import accepts, matches
from tests.server.engine.schema.replies import drawn

NESTED = [
    *("[[:alpha:]]", "^[[a]]$", "^[a-z&&[^aeiou]]$", "^[a[:digit:]]$", "^[[.a.]]$", "^[+--]$", "^[--a]$", "^[a~~b]$"),
    *("^[a&&b]$", "^[]a]$", "^[^]a]$", "^[^[]$", r"^[\]\[]$", "^[a^]$", "^[a-]$", r"^\[[[]$"),
]
CONTROLS = [
    *(r"^[\x00-\x1f]$", r"^[\u0000-\u001f]$", "^[\x00-\x1f]$", r"^[\x00-\x20]$", r"^[^ -\x7f]$", '^[^"]$', r"^[^\\]$"),
    *(r'^[^"\\]$', r"^[\x00-\x1f]{2}$", r"^(?:[\x00-\x10]|[\x11-\x1f])$", r"^[\x00-\x08]$", r"^[\n-\r]$", r"^[\x01]$"),
]
TEXTS = [text for code in range(127) for text in (chr(code), 2 * chr(code), f"{chr(code)}]")]


def found(pattern: str, text: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Python warns of what nests elsewhere
        return re.search(pattern.replace("$", r"\Z"), text) is not None


@pytest.mark.parametrize("pattern", NESTED + CONTROLS)
def test_a_class_is_read_as_python_reads_it(pattern: str) -> None:
    """But for U+0001, which a class of all control characters gives up."""
    wrong = [text for text in TEXTS if matches(pattern, text) != found(pattern, text)]
    assert [text for text in wrong if "\x01" not in text or matches(pattern, text)] == []


@pytest.mark.parametrize("pattern", NESTED + CONTROLS)
@pytest.mark.parametrize("beside", [{}, {"not": {"const": "ab"}}], ids=["alone", "beside a not"])
def test_replies_match(pattern: str, beside: dict[str, object]) -> None:
    schema = {"type": "string", "pattern": pattern, "maxLength": 4, **beside}
    try:
        grammar = JsonSchema(schema).grammar(40)
    except ValueError as error:
        assert beside, error  # there only what needs no escape is written
        return
    for seed in range(20):
        reply = drawn(grammar, seed, 60)
        assert reply is not None
        jsonschema.validate(json.loads(reply), {**schema, "pattern": pattern.replace("$", r"\Z")})


@pytest.mark.parametrize("keyword", ["patternProperties", "propertyNames"])
def test_names_match(keyword: str) -> None:
    pattern = "^[[:x]]$"
    said = {pattern: {"const": 1}} if keyword == "patternProperties" else {"pattern": pattern}
    schema = {"type": "object", keyword: said, "additionalProperties": keyword == "propertyNames" and {"const": 1}}
    grammar = JsonSchema({**schema, "minProperties": 1, "maxProperties": 1}).grammar(60)
    assert accepts(grammar, '{"x]":1}') and not accepts(grammar, '{"x":1}')
