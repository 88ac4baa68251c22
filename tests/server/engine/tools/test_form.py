"""Replies under the grammar of calls, drawn at random over the shipped base's vocabulary."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import llguidance
import pytest

from graft.adapters.chat.form import call_text
from graft.server.engine.schema.patterns.patterns import accepts
from graft.server.engine.schema.refusal import SchemaRefused
from graft.server.engine.tools.enforced import calls_structure
from graft.server.engine.tools.form import calls_grammar
from graft.server.engine.tools.reading import CallReader
from graft.server.engine.tools.tools import Calling, Tool, ToolUse
from tests.server.engine.schema.replies import _tokenizer as tokenizer
from tests.server.engine.schema.replies import drawn

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool(name="weather", parameters=CITY)
# Properties without a type are an object's, and names may need escapes in the grammar.
NOTE = Tool(name="note.v-1", parameters={"properties": {'"a"': {"type": "boolean"}}, "required": ['"a"']})
TOOLS = {tool.name: tool for tool in (WEATHER, NOTE)}


def use(*tools: Tool, calling: Calling = Calling.REQUIRED, at_most_one: bool = False) -> ToolUse:
    return ToolUse(tools=tools, allowed=tools, calling=calling, at_most_one=at_most_one)


def calls_of(reply: str) -> list[tuple[str, Any]]:
    reader = CallReader()
    said, last = reader.feed(reply), reader.end()
    assert not (said.content + last.content).strip()
    for one in said.calls:
        jsonschema.validate(json.loads(one.arguments), TOOLS[str(one.name)].parameters)
    return [(str(one.name), json.loads(one.arguments)) for one in said.calls]


@pytest.mark.parametrize("seed", range(30))
def test_a_required_reply_calls_as_the_schemas_say(seed: int) -> None:
    grammar = calls_grammar(use(WEATHER, NOTE), 1_600)
    reply = drawn(grammar, seed, max_tokens=1_600)
    assert reply is not None
    assert 1 <= len(calls_of(reply)) <= 4


@pytest.mark.parametrize("seed", range(10))
def test_one_call_where_no_more_are_wanted(seed: int) -> None:
    reply = drawn(calls_grammar(use(WEATHER, at_most_one=True), 1_600), seed, max_tokens=400)
    assert reply is not None and [name for name, _ in calls_of(reply)] == ["weather"]


@pytest.mark.parametrize("room", [1, 60, 200])
def test_little_room_leaves_one_call_that_ends(room: int) -> None:
    reply = drawn(calls_grammar(use(WEATHER), room), 0, max_tokens=200)
    assert reply is not None and len(calls_of(reply)) == 1


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("No call is needed.", True),
        ("I look.\n" + call_text("weather", {"city": "Oslo"}), True),
        (call_text("weather", {"city": "Oslo"}) + "\n" + call_text("note.v-1", {'"a"': True}), True),
        (call_text("weather", {"city": "Paris"}), False),
        (call_text("other", {}), False),
        ("<tool_call>\n{", False),
        ("5 < 6", True),
    ],
)
def test_auto_speaks_and_calls(text: str, allowed: bool) -> None:
    assert accepts(calls_grammar(use(WEATHER, NOTE, calling=Calling.AUTO), 1_000), text) == allowed


@pytest.mark.parametrize(("spare", "allowed"), [(2, True), (-1, False)])
def test_auto_leaves_a_call_the_whole_room(spare: int, allowed: bool) -> None:
    """A character is a token of the shipped base: in half the room no argument had a place, and "" was written."""
    find = Tool(name="find", parameters={"properties": {"word": {"type": "string"}}, "required": ["word"]})
    text = call_text("find", {"word": "lighthouse"})
    assert accepts(calls_grammar(use(find, calling=Calling.AUTO), len(text) + spare), text) == allowed


def test_auto_calls_once_where_no_more_are_wanted() -> None:
    grammar = calls_grammar(use(WEATHER, calling=Calling.AUTO, at_most_one=True), 1_000)
    call = call_text("weather", {"city": "Oslo"})
    assert accepts(grammar, call) and not accepts(grammar, f"{call}\n{call}")


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('{"city":"Rome"}', True),
        (call_text("note.v-1", {'"a"': True}), True),
        ("Rome", False),
        ('{"city":"Bonn"}', False),
    ],
)
def test_a_reply_beside_calls_is_held_to_its_own_schema(text: str, allowed: bool) -> None:
    asked = replace(use(NOTE, calling=Calling.AUTO), reply_schema=json.dumps(CITY))
    assert asked.is_enforced and accepts(calls_grammar(asked, 1_000), text) == allowed


def test_free_text_ends_at_the_bases_own_stop_token() -> None:
    """A chat's turn ends in another token than a text: a grammar that forbids it makes replies run on."""
    grammar = str(calls_structure(use(WEATHER, calling=Calling.AUTO), stop_ids=[4]).within(1_000)["grammar"])
    matcher = llguidance.LLMatcher(tokenizer(), grammar, log_level=0)
    for text in ("", "It is 7.", call_text("weather", {"city": "Oslo"})):
        matcher.reset()
        assert matcher.consume_tokens([*tokenizer().tokenize_str(text), 4]), matcher.get_error()
    plain = llguidance.LLMatcher(tokenizer(), grammar.replace(" | TEXT <[4]>", ""), log_level=0)
    assert not plain.consume_tokens([*tokenizer().tokenize_str("It is 7."), 4])


def test_what_cannot_be_enforced_is_refused_with_the_function() -> None:
    broken = Tool(name="broken", parameters={"type": "object", "properties": {"a": {"$ref": "#/no"}}})
    with pytest.raises(SchemaRefused, match='of the function "broken"'):
        calls_grammar(use(WEATHER, broken), 1_000)
