"""Texts with values of item and sample."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.grading.observation import Observation
from graft.server.grading.templates import MissingValue, Template, TooLong, read_template

OBSERVATION = Observation(
    output_text='{"answer": {"n": 7}, "list": [1, "two"]}',
    item={
        "a": "A",
        "n": 3,
        "x": 0.5,
        "yes": True,
        "none": None,
        "deep": {"list": [{"k-1": "found"}]},
        "text": "{{item.a}}",
        "it's": "one",
        'a"b': "two",
    },
    tools=[{"function": {"name": "add"}}],
)


def template(text: str) -> Template:
    faults: list[str] = []
    found = read_template(text, faults.append)
    assert faults == []
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain } text { here }}", "plain } text { here }}"),
        ("{{ item.a }}-{{item.a}}-{{\n item.a}}", "A-A-A"),
        ("{{item.n}} {{item.x}} {{item.yes}} {{item.none}}", "3 0.5 true null"),
        ("{{item.deep}}", '{"list":[{"k-1":"found"}]}'),
        ("{{item.deep.list[0].k-1}} {{item.deep.list.0['k-1']}}", "found found"),
        ("{{sample.output_json.answer.n}} {{sample.output_json.list[1]}}", "7 two"),
        ("{{sample.output_tools[0].function.name}}", "add"),
        ("{{sample.choices[0].message.content}}", OBSERVATION.output_text),
        ("{{item.text}}", "{{item.a}}"),
        ("""{{item["it's"]}} {{item['a"b']}}""", "one two"),
    ],
)
def test_written(text: str, expected: str) -> None:
    assert template(text).write(OBSERVATION.values) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ item.a", "not closed"),
        ("{{}}", "no path"),
        ("{{ item.a | upper }}", "no path"),
        ("{{ item.__class__() }}", "no path"),
        ("{{ items.a }}", "begins with"),
        ("{{ sample.output }}", "sample has no"),
        ("{{ item[a] }}", "no path"),
    ],
)
def test_what_is_no_template(text: str, says: str) -> None:
    faults: list[str] = []
    read_template(text, faults.append)
    assert len(faults) == 1
    assert says in faults[0]


@pytest.mark.parametrize(
    "path",
    [
        "item.b",
        "item.a.b",
        "item.deep.list[1]",
        "item.a[0]",
        "sample.output_json.b",
        "sample.output_json.list." + "9" * 5000,
    ],
)
def test_what_is_not_there(path: str) -> None:
    with pytest.raises(MissingValue, match="is missing"):
        template("{{" + path + "}}").write(OBSERVATION.values)


def test_values_are_bounded() -> None:
    with pytest.raises(TooLong):
        template("{{sample.output_text}}" * 1000).write(Observation(output_text="x" * 2000).values)


@given(st.text(max_size=50))
def test_a_text_without_braces_stays(text: str) -> None:
    assert template(text.replace("{{", "")).write({}) == text.replace("{{", "")


@given(st.text("{}item. a[]0\"'|", max_size=60))
def test_any_text_is_read(text: str) -> None:
    read_template(text, lambda problem: None)
