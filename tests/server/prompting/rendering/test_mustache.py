"""Templates of `{{variable}}`: what they read, what they refuse, and that values are never read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.errors import BadInput
from graft.server.prompting.rendering import mustache
from graft.server.prompting.rendering.templates import MAX_RENDERED_CHARACTERS, Job


def rendered(template: str, **values: Any) -> str:
    (text,) = mustache.render_all([Job(field="prompt", template=template, values=values)])
    return text


def problems(template: str, **values: Any) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as caught:
        rendered(template, **values)
    return [(one.field, one.problem) for one in caught.value.violations]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{a}}", "1"),
        ("{{ a }}-{{\ta\n}}", "1-1"),
        ("{a} {{a}} } {", "{a} 1 } {"),
        ('{"k": {"v": {{a}}}}', '{"k": {"v": 1}}'),
        (r"\{{a}} {{a}}", "{{a}} 1"),
        (r"\\{{a}}", r"\1"),
        (r"\{{{{a}}", "{{1"),
        (r"a\b\n", r"a\b\n"),
        ("{{é-1}}", "3"),
        ("", ""),
    ],
)
def test_a_variable_stands_between_two_braces_and_all_else_for_itself(template: str, text: str) -> None:
    assert rendered(template, a="1", **{"é-1": 3}) == text


@given(value=st.text())
def test_a_value_is_never_read_again(value: str) -> None:
    assert rendered("<{{a}}|{{b}}>", a=value, b="{{a}}") == f"<{value}|{{{{a}}}}>"


@given(text=st.text(alphabet="{}\\a \n", max_size=40))
def test_a_text_whose_braces_are_escaped_is_itself(text: str) -> None:
    """Every text can be written: a backslash before each pair of braces, and before a backslash that stands there."""
    escaped, at = [], 0
    while at < len(text):
        if text.startswith("\\", at) and text[at:].lstrip("\\").startswith("{{"):
            return  # a backslash just before braces: what it means is stated above
        if text.startswith("{{", at):
            escaped.append(r"\{{")
            at += 2
        else:
            escaped.append(text[at])
            at += 1
    assert rendered("".join(escaped)) == text


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (2, "2"), (0.5, "0.5"), ("x", "x"), (-1e30, "-1e+30")])
def test_numbers_and_truth_are_written_as_json(value: Any, text: str) -> None:
    assert rendered("{{a}}", a=value) == text


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, float("nan"), float("inf"), (1,)])
def test_other_values_are_refused_by_name(value: Any) -> None:
    ((field, problem),) = problems("{{answer}}", answer=value)
    assert field == "variables.answer" and "text, a number, true or false" in problem


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a\n b {{{x}}}", ["line 2, column 4", "{{{", "no value is escaped"]),
        ("{{#each}}", ["section", "jinja2"]),
        ("{{/each}}", ["section's end"]),
        ("{{^x}}", ["section"]),
        ("{{> part}}", ["partial"]),
        ("{{! note}}", ["comment"]),
        ("{{= | | =}}", ["delimiters"]),
        ("{{& x}}", ["write the name alone"]),
        ("{{}}", ["names nothing"]),
        ("{{a b}}", ['"a b"', "no name"]),
        ("{{a.b}}", ["no name"]),
        ("{{1a}}", ["no name"]),
        ("{{" + "a" * 129 + "}}", ["at most 128"]),
        ("x {{a", ["line 1, column 3", "not closed"]),
        ("{{a {{b}}", ["not closed before the next"]),
    ],
)
def test_what_is_not_read_is_said_with_what_to_do(template: str, words: list[str]) -> None:
    ((field, problem),) = problems(template)
    assert field == "prompt" and not [word for word in words if word not in problem]


def test_all_faults_and_all_missing_values_are_told_at_once() -> None:
    told = problems("{{#a}} {{b}} {{}} {{c}}", c=[])
    assert [field for field, _ in told] == ["prompt", "prompt", "variables.b", "variables.c"]


def test_what_may_have_been_meant_is_a_notice() -> None:
    assert mustache.reading("Hi {name}, {name} {{x}}").notices == (
        "`{name}` is text: a variable is written `{{name}}`",
    )
    assert "jinja2" in mustache.reading("{% for x in y %}").notices[0]
    assert mustache.reading("{{x}}{{y}}{{x}}").variables == ("x", "y")


@pytest.mark.parametrize("part", ["{{", "{{a}}", "\\", "{", "{{a", "{{a}} {{", "}}", "\\{{"])
def test_a_megabyte_is_read_once(part: str) -> None:
    """Quadratic time would be hours here."""
    mustache.reading(part * (1_000_000 // len(part)))


def test_the_places_in_a_template_are_bounded() -> None:
    ((_, problem),) = problems("{{a}}" * 200_000, a="x")
    assert "10000 variables" in problem
    assert rendered("{{a}}" * 9_000, a="x") == "x" * 9_000


def test_what_would_be_written_is_bounded_before_it_is() -> None:
    ((field, problem),) = problems("{{a}}" * 1000, a="x" * 100_000)
    assert field == "prompt" and str(MAX_RENDERED_CHARACTERS) in problem
