"""Graders as requests bring them: as openai's types have them, or all that is wrong at once."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.graders import (
    LabelModelGrader,
    PythonGrader,
    ScoreModelGrader,
    StringCheckGrader,
    TextSimilarityGrader,
)
from pydantic import TypeAdapter

from graft.server.errors import BadInput
from graft.server.grading.graders import Grader, Multi, ScoreModel, templates_of, type_of
from graft.server.grading.reading import Allowed, read_grader
from graft.server.runtime.violations import Violations

STRING = {
    "type": "string_check",
    "name": "s",
    "input": "{{sample.output_text}}",
    "reference": "{{item.a}}",
    "operation": "eq",
}
SIMILAR = {
    "type": "text_similarity",
    "name": "t",
    "input": "{{sample.output_text}}",
    "reference": "x",
    "evaluation_metric": "rouge_l",
}
SCORE = {
    "type": "score_model",
    "name": "m",
    "model": "base",
    "range": [0, 7],
    "sampling_params": {
        "max_completions_tokens": 64,
        "temperature": 0.5,
        "seed": 1,
        "top_p": 0.9,
        "reasoning_effort": "none",
    },
    "input": [
        {"role": "developer", "content": "Grade.", "type": "message"},
        {"role": "user", "content": {"type": "input_text", "text": "{{item.q}}"}},
        {"role": "user", "content": ["One", {"type": "output_text", "text": "{{item.r}}"}]},
    ],
}
LABEL = {
    "type": "label_model",
    "name": "l",
    "model": "base",
    "input": [{"role": "user", "content": "?"}],
    "labels": ["a", "b"],
    "passing_labels": ["b"],
}
PYTHON = {"type": "python", "name": "p", "source": "def grade(sample, item): return 1"}
SINGLES = {
    "string_check": STRING,
    "text_similarity": SIMILAR,
    "score_model": SCORE,
    "label_model": LABEL,
    "python": PYTHON,
}
TYPES: dict[str, Any] = {
    "string_check": StringCheckGrader,
    "text_similarity": TextSimilarityGrader,
    "score_model": ScoreModelGrader,
    "label_model": LabelModelGrader,
    "python": PythonGrader,
}
MULTI = {
    "type": "multi",
    "name": "all",
    "graders": SINGLES,
    "calculate_output": "string_check + 0.5 * max(python, label_model)",
}


def read(value: object, *, no_python: str | None = None) -> Grader:
    violations = Violations()
    grader = read_grader(value, Allowed(no_python=no_python), violations)
    violations.raise_any()
    assert grader is not None
    return grader


def problems(value: object, *, no_python: str | None = None) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        read(value, no_python=no_python)
    return {one.field: one.problem for one in caught.value.violations}


@pytest.mark.parametrize("kind", SINGLES)
def test_read(kind: str) -> None:
    TypeAdapter(TYPES[kind]).validate_python(SINGLES[kind], strict=True)
    assert type_of(read(SINGLES[kind])) == kind


def test_multi() -> None:
    grader = read(MULTI)
    assert isinstance(grader, Multi)
    assert list(grader.graders) == list(SINGLES)
    assert {path for one in templates_of(grader) for path in one.paths} == {
        ("sample", "output_text"), ("item", "a"), ("item", "q"), ("item", "r"),
    }  # fmt: skip


def test_multi_of_one_as_the_types_have_it() -> None:
    grader = read({"type": "multi", "name": "m", "graders": STRING, "calculate_output": "2 * s"})
    assert isinstance(grader, Multi)
    assert list(grader.graders) == ["s"]


def test_messages() -> None:
    grader = read(SCORE)
    assert isinstance(grader, ScoreModel)
    assert [message.role for message in grader.input] == ["system", "user", "user"]
    assert grader.input[2].content.write({"item": {"r": "two"}}) == "One\ntwo"
    assert (grader.low, grader.high, grader.sampling.max_tokens) == (0, 7, 64)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"operation": "gt"}, "grader.operation", "one of eq, ne, like, ilike"),
        ({"operation": None}, "grader.operation", "missing"),
        ({"input": 3}, "grader.input", "must be a text"),
        ({"input": "{{item.a"}, "grader.input", "not closed"),
        ({"refrence": "x"}, "grader.refrence", "did you mean reference?"),
        ({"name": ""}, "grader.name", "empty"),
        ({"type": "regex"}, "grader.type", "one of string_check"),
    ],
)
def test_what_is_wrong(change: dict[str, Any], field: str, says: str) -> None:
    assert says in problems({**STRING, **change})[field]


def test_all_at_once() -> None:
    found = problems(
        {
            "type": "multi",
            "name": "m",
            "graders": {
                "a b": STRING,
                "max": STRING,
                "t": {**SIMILAR, "evaluation_metric": "cosine"},
                "s": {**SCORE, "range": [1, 0], "sampling_params": {"top_p": 2, "top_k": 1}, "input": []},
                "i": {
                    **LABEL,
                    "labels": ["a", "a"],
                    "input": [{"role": "tool", "content": {"type": "input_image", "image_url": "x"}}],
                },
                "m": {"type": "multi"},
                "p": {**PYTHON, "image_tag": "2025-05-08"},
            },
            "calculate_output": "t + unknown",
            "more": 1,
        },
        no_python="bwrap is not on the PATH",
    )
    assert found.keys() == {
        "grader.graders.a b", "grader.graders.max", "grader.graders.t.evaluation_metric", "grader.graders.s.range",
        "grader.graders.s.sampling_params.top_p", "grader.graders.s.sampling_params.top_k", "grader.graders.s.input",
        "grader.graders.i.labels[1]", "grader.graders.i.passing_labels[0]", "grader.graders.i.input[0].role",
        "grader.graders.i.input[0].content.type", "grader.graders.m.type", "grader.graders.p.image_tag",
        "grader.graders.p.type", "grader.calculate_output", "grader.more",
    }  # fmt: skip
    assert "embedding" in found["grader.graders.t.evaluation_metric"]
    assert "bwrap is not on the PATH" in found["grader.graders.p.type"]


@pytest.mark.parametrize(("value", "said"), [(3, "3"), ("x", '"x"'), ([], "a list"), (True, "true")])
def test_no_object(value: object, said: str) -> None:
    assert problems(value) == {"grader": f"is {said}; it must be an object"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"range": [0, 10**400]}, "grader.range"),
        ({"range": [-1e300, 1e300]}, "grader.range"),
        ({"sampling_params": {"temperature": 10**400}}, "grader.sampling_params.temperature"),
        ({"sampling_params": {"seed": 10**400}}, "grader.sampling_params.seed"),
        ({"input": [{"role": "user", "content": ["x"] * 257}]}, "grader.input[0].content"),
        ({"input": [{"role": "user", "content": [["x"]]}]}, "grader.input[0].content[0]"),
        ({"input": [{"role": "user", "content": [None]}]}, "grader.input[0].content[0]"),
    ],
)
def test_what_is_too_much(change: dict[str, Any], field: str) -> None:
    """Nothing of it is left out silently, and nothing breaks the reading."""
    assert problems({**SCORE, **change}).keys() == {field}


def test_long_labels() -> None:
    """Every answer's grammar holds them all."""
    assert problems({**LABEL, "labels": [*LABEL["labels"], "b" * 257]}).keys() == {"grader.labels[2]"}
