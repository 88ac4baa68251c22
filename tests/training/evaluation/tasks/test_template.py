"""Templates: as Jinja fills those that are supported, and no others."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest

from graft.training.evaluation.tasks.template import BadTemplate, parse

VALUES: dict[str, Any] = {
    "question": " Which? ",
    "choices": ["a", "b"],
    "label": 1,
    "doc": {"text": "x", "label": 0},
    "sol1": "one",
    "sol2": "two",
}


@pytest.mark.parametrize(
    "source",
    [
        "no field", "{{question}}", "{{ question }} and {{label}}", "{{choices[label]}}", "{{choices[0]}}",
        "{{doc.text}}", "{{doc['text']}}", '{{ doc["text"] }}', "{{choices[doc.label]}}", "{{question.strip()}}",
        "{{question|trim}}", "{{ question | trim }}\n", "{{choices}}", "{{[sol1, sol2]}}", "a { b } c }}",
    ],
)  # fmt: skip
def test_as_jinja(source: str) -> None:
    environment = jinja2.Environment(keep_trailing_newline=True, autoescape=False)
    assert parse(source).fill(VALUES) == environment.from_string(source).render(**VALUES)


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in y %}", "{# note #}", "{{question.upper()}}", "{{question + 1}}", "{{''.__class__}}", "{{ }}",
        "{{question|upper}}", "{{range(10)}}", "{{choices[label+1]}}", "{{[['a'], b]}}",
    ],
)  # fmt: skip
def test_anything_else_is_refused(source: str) -> None:
    with pytest.raises(BadTemplate, match="not supported"):
        parse(source)


@pytest.mark.parametrize("source", ["{{missing}}", "{{choices[7]}}", "{{doc.__class__}}", "{{choices[missing]}}"])
def test_what_is_not_there_is_named(source: str) -> None:
    with pytest.raises(BadTemplate, match=r"there is no field|has no"):
        parse(source).fill(VALUES)


def test_a_template_of_a_megabyte_is_read_at_once() -> None:
    assert len(parse("{{" * 500_000).parts) == 1
    assert len(parse("{" * 1_000_000).parts) == 1
    assert len(parse("{{a}}" * 100_000).parts) == 100_000
    with pytest.raises(BadTemplate):
        parse("{{ a" + " b" * 500_000 + "}}")
