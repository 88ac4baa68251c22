"""Checks that a model decides: promptfoo's ``llm-rubric``, OpenAI's ``label_model`` and ``score_model``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graft.training.evaluation.asking.model import Asked, Decoding, Model, Turn
from graft.training.evaluation.checks.check import Check, CheckKind, Verdict, filled

MAX_TOKENS = 256
_RUBRIC = (
    "You grade an output by a rubric. Answer with a JSON object: "
    '{"reason": why, "score": from 0 to 1, "pass": whether the output meets the rubric}.'
)
_RUBRIC_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 200},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "pass": {"type": "boolean"},
    },
    "required": ["reason", "score", "pass"],
    "additionalProperties": False,
}


class Unjudged(Exception):
    """The judge gave no verdict."""


def judge_answer(check: Check, answer: str, judge: Model) -> Verdict:
    """The judge's verdict, drawn greedily in the shape that the check needs.

    A rubric passes where the judge says so and the score reaches the threshold, if there is one. A score passes from
    the threshold on, by default the middle of its range.

    Raises:
        Unjudged: what the judge said is none.
        Refused: the judge cannot be asked.
    """
    match check.kind:
        case CheckKind.RUBRIC:
            return _rubric(check, answer, judge)
        case CheckKind.LABEL:
            return _label(check, answer, judge)
        case CheckKind.SCORE:
            return _score(check, answer, judge)
    raise ValueError(f"{check.kind} needs no judge")


def _rubric(check: Check, answer: str, judge: Model) -> Verdict:
    content = f"<Output>\n{answer}\n</Output>\n<Rubric>\n{filled(check.reference, answer)}\n</Rubric>"
    turns = (Turn(role="system", content=_RUBRIC), Turn(role="user", content=content))
    said = _said(judge, turns, _RUBRIC_SCHEMA)
    score, passes = _number(said.get("score")), said.get("pass")
    if not isinstance(passes, bool):
        raise Unjudged(f"{judge.name} said {json.dumps(said)[:120]}")
    holds = passes and (check.threshold is None or score >= check.threshold)
    passed = holds != check.is_negated
    reason = "" if passed else f"llm-rubric: {str(said.get('reason', ''))[:200]}"
    return Verdict(passed=passed, score=1 - score if check.is_negated else score, reason=reason)


def _label(check: Check, answer: str, judge: Model) -> Verdict:
    said = _said(judge, _turns(check, answer), _object("label", {"type": "string", "enum": list(check.labels)}))
    label = said.get("label")
    if label not in check.labels:
        raise Unjudged(f"{judge.name} said {json.dumps(said)[:120]}")
    passed = label in check.passing_labels
    return Verdict(passed=passed, score=float(passed), reason="" if passed else f"{check.name}: labelled {label!r}")


def _score(check: Check, answer: str, judge: Model) -> Verdict:
    low, high = check.range
    said = _said(judge, _turns(check, answer), _object("score", {"type": "number", "minimum": low, "maximum": high}))
    score = min(high, max(low, _number(said.get("score"))))
    passed = score >= ((low + high) / 2 if check.threshold is None else check.threshold)
    share = (score - low) / (high - low)
    return Verdict(passed=passed, score=share, reason="" if passed else f"{check.name}: score {score:g}")


def _turns(check: Check, answer: str) -> tuple[Turn, ...]:
    return tuple(Turn(role=turn.role, content=filled(turn.content, answer)) for turn in check.turns)


def _object(key: str, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"type": "object", "properties": {key: schema}, "required": [key], "additionalProperties": False}


def _said(judge: Model, turns: tuple[Turn, ...], schema: Mapping[str, Any]) -> dict[str, Any]:
    (text,) = judge.say(Asked(prompt=turns), Decoding(max_tokens=MAX_TOKENS, json_schema=schema))
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Unjudged(f"{judge.name} said {text[:120]!r}, which is no JSON object")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unjudged(f"the judge's score is {value!r}")
    return float(value)
