"""Checks without a judge, and what a judge's answers become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graft.training.evaluation.checks.check import Check, CheckKind, JudgeTurn, Verdict, decide, total
from graft.training.evaluation.checks.judging import Unjudged, judge_answer
from graft.training.evaluation.checks.schema import broken, problem_of
from tests.training.evaluation.scripted import ScriptedModel

HELD = [
    ("equals", "Paris", "Paris"),
    ("contains", "in Paris.", "Paris"),
    ("icontains", "in PARIS.", "paris"),
    ("starts-with", "Paris is", "Paris"),
    ("regex", "June 3rd, 2014", r"\d{4}$"),
    ("is-json", ' {"a": [1]} ', ""),
    ("contains-json", 'Sure: {"a": {"b": 1}} there', ""),
]
NOT_HELD = [
    ("equals", "Paris.", "Paris"),
    ("contains", "in PARIS.", "Paris"),
    ("icontains", "London", "paris"),
    ("starts-with", "in Paris", "Paris"),
    ("regex", "June", r"\d"),
    ("is-json", 'Sure: {"a": 1}', ""),
    ("contains-json", "no { braces } here [", ""),
]


@pytest.mark.parametrize("is_negated", [False, True])
@pytest.mark.parametrize(("holds", "rows"), [(True, HELD), (False, NOT_HELD)])
def test_what_holds(holds: bool, rows: list[tuple[str, str, str]], is_negated: bool) -> None:
    for kind, answer, reference in rows:
        check = Check(kind=CheckKind(kind), reference=(reference,), is_negated=is_negated)
        verdict = decide(check, answer)
        assert verdict.passed == (holds != is_negated), (kind, answer)
        assert bool(verdict.reason) != verdict.passed


def test_json_is_checked_after_its_schema() -> None:
    schema = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}}}
    check = Check(kind=CheckKind.CONTAINS_JSON, value=schema)
    assert decide(check, 'first {"name": "x"}, then {"name": "Xenia"}').passed
    assert "does not match" in decide(check, '{"name": "x"}').reason
    assert decide(Check(kind=CheckKind.EQUALS, value={"a": [1, 2]}), '{"a":[1,2]}').passed


def test_a_schema_runs_no_matcher_that_backtracks_and_fetches_nothing() -> None:
    evil = {"type": "string", "pattern": "^(a+)+$"}
    assert problem_of("a" * 50_000 + "b", evil) is not None
    assert "not in it" in str(problem_of(1, {"$ref": "http://localhost:1/x.json"}))
    assert "no regular expression of RE2: invalid perl operator: (?=." in str(broken({"pattern": "(?=a)"}))
    assert "patternProperties" in str(broken({"patternProperties": {"a": {}}}))
    assert broken({"type": "object"}) is None


def test_the_answer_stands_where_the_text_says() -> None:
    check = Check(kind=CheckKind.EQUALS, input=("<", None, ">"), reference=("<", "a", ">"))
    assert decide(check, "a").passed and not decide(check, "b").passed


def test_all_checks_together() -> None:
    checks = (
        Check(kind=CheckKind.EQUALS, weight=3),
        Check(kind=CheckKind.EQUALS),
        Check(kind=CheckKind.EQUALS, weight=0),
    )
    good, bad = Verdict(passed=True, score=1), Verdict(passed=False, score=0, reason="why")
    assert total(checks, (good, bad, bad), 0.75).passed
    assert not total(checks, (good, bad, bad), None).passed
    assert total(checks, (good, good, bad), None).passed
    assert total(checks, (good, bad, bad), 0.8) == Verdict(passed=False, score=0.75, reason="why; why")


def saying(value: Any) -> ScriptedModel:
    return ScriptedModel(say_=lambda prompt, path: value if isinstance(value, str) else json.dumps(value))


def test_judges() -> None:
    rubric = Check(kind=CheckKind.RUBRIC, reference=("is kind",), threshold=0.6)
    judge = saying({"reason": "r", "score": 0.7, "pass": True})
    assert judge_answer(rubric, "hello", judge).passed
    assert "hello" in judge.asked[0] and "is kind" in judge.asked[0]
    assert not judge_answer(rubric, "x", saying({"reason": "r", "score": 0.5, "pass": True})).passed
    label = Check(kind=CheckKind.LABEL, labels=("good", "bad"), passing_labels=("good",))
    assert judge_answer(label, "x", saying({"label": "good"})).passed
    assert not judge_answer(label, "x", saying({"label": "bad"})).passed
    turns = (JudgeTurn(role="user", content=("grade ", None)),)
    score = Check(kind=CheckKind.SCORE, range=(1.0, 5.0), threshold=4.0, turns=turns)
    verdict = judge_answer(score, "the answer", judge := saying({"score": 4}))
    assert verdict.passed and verdict.score == 0.75 and judge.asked == ["user: grade the answer"]


@pytest.mark.parametrize("said", ["no JSON", "[1]", '{"label": "other"}', "{}"])
def test_a_judge_without_a_verdict_is_no_failure(said: str) -> None:
    label = Check(kind=CheckKind.LABEL, labels=("good", "bad"), passing_labels=("good",))
    with pytest.raises(Unjudged):
        judge_answer(label, "x", saying(said))
