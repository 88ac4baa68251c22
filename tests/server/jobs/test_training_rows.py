"""Training files are judged line by line, everything at once (fault B4)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.jobs.job import Method
from graft.server.jobs.training_rows import reading
from graft.server.jobs.training_rows.reading import MAX_CHARACTERS, MAX_PROBLEMS, MAX_SHOWN, judge

USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}
CHAT = {"messages": [{"role": "system", "content": "s"}, USER, ANSWER]}
PAIR = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{**ANSWER, "content": "x"}],
}
CALL = {"role": "assistant", "tool_calls": [{"id": "1"}]}
SOUND = {
    Method.SUPERVISED: [
        CHAT,
        {"prompt": "a", "completion": "b"},
        {"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}], "tools": []},
        {"messages": [USER, CALL, {"role": "tool", "content": "3", "tool_call_id": "1"}, ANSWER]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}]}, ANSWER]},
    ],
    Method.DPO: [PAIR, {**PAIR, "input": {"messages": [USER], "tools": [], "parallel_tool_calls": True}}],
    Method.REINFORCEMENT: [{"messages": [USER], "answer": 3}, {"messages": [ANSWER, USER]}],
    Method.REWARD: [PAIR],
}


def judged(method: Method, *rows: Any) -> str | None:
    return judge(io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows)), method)


@pytest.mark.parametrize("method", Method)
def test_sound_rows_are_taken(method: Method) -> None:
    assert judged(method, *SOUND[method]) is None


@pytest.mark.parametrize(
    ("method", "row", "words"),
    [
        (Method.SUPERVISED, [], "is []; a row is a JSON object"),
        (Method.SUPERVISED, {}, "prompt is missing"),
        (Method.SUPERVISED, {"messages": []}, "messages is empty"),
        (Method.SUPERVISED, {"messages": [USER]}, "messages ends with user"),
        (Method.SUPERVISED, {"messages": [{"role": "robot", "content": "x"}, ANSWER]}, 'messages[0].role is "robot"'),
        (Method.SUPERVISED, {"messages": [{"role": "user"}, ANSWER]}, "messages[0].content is missing"),
        (Method.SUPERVISED, {"messages": [USER, {**ANSWER, "weight": 2}]}, "messages[1].weight is 2: 0 or 1"),
        (Method.SUPERVISED, {"messages": [USER, {**ANSWER, "weight": True}]}, "messages[1].weight is true"),
        (Method.SUPERVISED, {"messages": [{**USER, "weight": 1}, ANSWER]}, "only the assistant's"),
        (Method.SUPERVISED, {"messages": [USER, {**ANSWER, "weight": 0}]}, "nothing can be learned"),
        (Method.SUPERVISED, {"messages": [7, ANSWER]}, "messages[0] is 7: a message is an object"),
        (Method.SUPERVISED, {"prompt": "a", "completion": ""}, "completion is empty"),
        (Method.SUPERVISED, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ANSWER]}, "image_url"),
        (Method.DPO, CHAT, "input is missing"),
        (Method.DPO, {**PAIR, "non_preferred_output": [ANSWER]}, "nothing is preferred"),
        (Method.DPO, {**PAIR, "preferred_output": "ho"}, 'preferred_output is "ho": a list of messages'),
        (Method.REINFORCEMENT, CHAT, "ends with the assistant"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(method: Method, row: Any, words: str) -> None:
    told = judged(method, SOUND[method][0], row)
    assert told is not None and words in told and "line 2: " in told and "1 of 2 rows" in told


def test_broken_lines_are_all_named_and_more_are_counted() -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps(CHAT).encode(),
        b"",
        b"{",
        b"\xff",
        b'{"a": NaN}',
        b"\0",
        b'"\\ud800"',
        b"[" * 10_000,
    ]
    told = judge(io.BytesIO(b"\r\n".join(lines)), Method.SUPERVISED)
    assert told is not None and told.startswith("6 of 7 rows")
    for words in ("line 3: is not JSON", "line 4: is not UTF-8 at byte 0", "line 5: holds NaN", "line 7: ", "line 8: "):
        assert words in told
    many = judge(io.BytesIO(b"x\n" * 50), Method.SUPERVISED)
    assert many is not None and many.count(": is not JSON") == MAX_SHOWN and many.endswith("and 30 more lines")
    for empty in (b"", b"\n\n  \n"):
        assert judge(io.BytesIO(empty), Method.DPO) == "has no row: write one JSON object a line"


def test_what_is_said_is_short_however_much_is_wrong() -> None:
    """100,000 problems in a line, names of a megabyte, many such lines: it stands in every answer about the job."""
    row = {"messages": [{}] * 50_000}
    told = judged(Method.SUPERVISED, row)
    assert told is not None and len(told) < 800 and told.startswith("1 of 1 rows cannot be used: line 1: messages[0]")
    assert told.endswith("; and at least 1000 more problems") and told.count(";") <= MAX_PROBLEMS
    few = judged(Method.SUPERVISED, {"messages": [{}] * 6})
    assert few is not None and few.endswith("; and 4 more problems") and "messages[3].content is missing" in few

    def names(_: Any) -> Iterator[str]:
        yield "x" * 1_000_000

    content = io.BytesIO(b"".join(json.dumps(CHAT).encode() + b"\n" for _ in range(100)))
    many = judge(content, Method.SUPERVISED, names)
    assert many is not None and len(many) < MAX_CHARACTERS + 100 and many.startswith("100 of 100 rows")
    num_named = many.count("line ")
    assert 5 <= num_named < MAX_SHOWN and many.endswith(f"and {100 - num_named} more lines")


def test_a_line_that_is_too_long_is_named_and_the_next_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 200)
    row = json.dumps(CHAT).encode()
    long = b'{"prompt": "%s"}' % (b"x" * 1_000)
    told = judge(io.BytesIO(b"\n".join([row, long, row, b"{"])), Method.SUPERVISED)
    assert told is not None and "line 2: has more than 200 bytes" in told and "line 4: is not JSON" in told
    assert "2 of 4 rows" in told


@given(st.binary(max_size=200), st.sampled_from(Method))
def test_whatever_the_bytes_are_they_are_judged(content: bytes, method: Method) -> None:
    told = judge(io.BytesIO(content), method)
    assert told is None or "\n" not in told


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "role", "content", "input", "preferred_output", "non_preferred_output", "type", "weight"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(values, st.sampled_from(Method))
def test_whatever_the_row_is_it_is_judged(row: Any, method: Method) -> None:
    judged(method, row)
