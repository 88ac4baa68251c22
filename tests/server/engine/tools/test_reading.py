"""Calls in the text of a reply, however it is cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.chat.form import assistant_text, call_text
from graft.server.engine.tools.reading import CallReader
from graft.server.engine.tools.replies import CallsInReply

NAMES = st.text("abc_-.", min_size=1, max_size=8)
ARGUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(st.text(max_size=5), ARGUMENTS, max_size=3)), max_size=3)
# What people say has no tags of its own.
CONTENT = st.text(max_size=20).map(lambda text: text.replace("<", "")).map(str.strip)


def read(pieces: list[str]) -> tuple[str, list[dict[str, Any]]]:
    """Content and calls, put together as OpenAI's clients do."""
    ids = (f"call_{number}" for number in itertools.count())
    reader = CallReader(lambda: next(ids))
    said = [reader.feed(piece) for piece in pieces] + [reader.end()]
    calls: list[dict[str, Any]] = []
    for delta in (delta for one in said for delta in one.calls):
        if delta.id is not None:
            assert delta.index == len(calls) and delta.name, "the first piece of a call has its id and name"
            calls.append({"name": delta.name, "arguments": ""})
        assert delta.id is not None or delta.name is None
        calls[delta.index]["arguments"] += delta.arguments
    return "".join(one.content for one in said), calls


def cut(text: str, places: list[int]) -> list[str]:
    ends = [*sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise([0, *ends])]


@given(CONTENT, CALLS, st.lists(st.integers(0, 10_000), max_size=8))
def test_what_is_written_is_read_wherever_it_is_cut(
    content: str, calls: list[tuple[str, dict[str, Any]]], places: list[int]
) -> None:
    wanted = [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    text = assistant_text(content, wanted)
    for pieces in ([text], cut(text, places), list(text)):
        said, found = read(pieces)
        assert said == content
        assert [(call["name"], json.loads(call["arguments"])) for call in found] == calls


@given(st.text('<tol_cal>/{}":, name1\n', max_size=60), st.lists(st.integers(0, 100), max_size=6))
def test_any_text_is_read_the_same_wherever_it_is_cut(text: str, places: list[int]) -> None:
    assert read([text]) == read(cut(text, places)) == read(list(text))


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("5 < 6 and <tool", "5 < 6 and <tool", []),
        ("<tool_call>nothing</tool_call>", "<tool_call>nothing</tool_call>", []),
        ('<tool_call>{"name": 5}</tool_call>', '<tool_call>{"name": 5}</tool_call>', []),
        ('<tool_call>{"arguments": {}}</tool_call>', '<tool_call>{"arguments": {}}</tool_call>', []),
        ('<tool_call>{"na', '<tool_call>{"na', []),
        ('<tool_call>\n{"arguments": {"a": 1}, "name": "f"}\n</tool_call>', "", [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
        ('<tool_call>{"name": "f", "parameters": {"a": "</tool_call>"}}', "", [("f", '{"a": "</tool_call>"}')]),
        ('a\n<tool_call>{"name":"f","arguments":{"b":[1,', "a", [("f", '{"b":[1,')]),
        ('<tool_call>{"name":"f","arguments":{}} and more', " and more", [("f", "{}")]),
        (call_text("f", {}) + "\n" + call_text("g", {}) + "\n\nDone.", "\n\nDone.", [("f", "{}"), ("g", "{}")]),
        (call_text("f", {}) + "\n", "", [("f", "{}")]),
        (
            '<tool_call>{"name": "f", "arguments": {"a": 1}\n</tool_call>' + call_text("g", {"b": 2}),
            "",
            [("f", '{"a": 1}'), ("g", '{"b":2}')],
        ),
        ('<tool_call>{"name": "f", "arguments": {"a": 1</tool_call> Well', " Well", [("f", '{"a": 1')]),
        ('<tool_call>{"name": "f", "arguments": </tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "n": 12</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f" and more', "and more", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": }</tool_call>', "", [("f", "{}")]),
        ('<tool_call>{"name": "f", "arguments": {}, "arguments": {"a": 1}}</tool_call>', "", [("f", "{}")]),
        ("<tool_call><tool_call>" + call_text("f", {}), "<tool_call><tool_call>", [("f", "{}")]),
    ],
)
def test_what_models_write_beside_the_form(text: str, content: str, calls: list[tuple[str, str]]) -> None:
    said, found = read([text])
    assert (said, [(call["name"], call["arguments"]) for call in found]) == (content, calls)


def test_blanks_behind_a_call_are_read_in_one_pass() -> None:
    """A quadratic reader would take a minute."""
    said, found = read([call_text("f", {})[: -len("</tool_call>")] + "\n" * 200_000 + "</tool_call>"])
    assert said == "" and [call["name"] for call in found] == ["f"]


def test_a_whole_answer_and_its_chunks_say_the_same() -> None:
    text = "Let me look.\n" + call_text("weather", {"city": "Oslo"}) + "\n" + call_text("time", {})
    whole = CallsInReply().body(
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    )["choices"][0]
    reader = CallsInReply()
    frames = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}]
    frames += [{"choices": [{"index": 0, "delta": {"content": letter}, "finish_reason": None}]} for letter in text]
    frames += [{"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]}]
    told = [one["choices"][0] for frame in frames if (one := reader.frame(frame)) is not None]
    assert whole["message"]["content"] == "".join(one["delta"].get("content", "") for one in told) == "Let me look."
    pieces = [piece for one in told for piece in one["delta"].get("tool_calls", ())]
    firsts = [piece for piece in pieces if "id" in piece]
    assert [one["function"]["name"] for one in firsts] == ["weather", "time"]
    assert all(one["id"].startswith("call_") and one["type"] == "function" for one in firsts)
    for index, call in enumerate(whole["message"]["tool_calls"]):
        streamed = "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == index)
        assert streamed == call["function"]["arguments"]
    assert whole["finish_reason"] == told[-1]["finish_reason"] == "tool_calls"


def test_an_answer_that_was_cut_says_so() -> None:
    message = {"role": "assistant", "content": '<tool_call>\n{"name":"f","arguments":{"a'}
    (choice,) = CallsInReply().body({"choices": [{"index": 0, "message": message, "finish_reason": "length"}]})[
        "choices"
    ]
    assert choice["finish_reason"] == "length" and choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"a'
    assert choice["message"]["content"] is None
