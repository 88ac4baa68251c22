"""One thing that an answer must be, as promptfoo's assertions and OpenAI's graders have it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from graft.training.evaluation.checks.likeness import LIKENESSES
from graft.training.evaluation.checks.patterns import compiled
from graft.training.evaluation.checks.schema import problem_of

Text = tuple[str | None, ...]
"""Texts in turn; None stands for the answer."""
ANSWER: Text = (None,)


class CheckKind(StrEnum):
    """What is compared."""

    EQUALS = "equals"
    CONTAINS = "contains"
    ICONTAINS = "icontains"
    REGEX = "regex"
    STARTS_WITH = "starts-with"
    IS_JSON = "is-json"
    CONTAINS_JSON = "contains-json"
    SIMILARITY = "similarity"
    RUBRIC = "llm-rubric"
    LABEL = "label_model"
    SCORE = "score_model"


JUDGED = frozenset({CheckKind.RUBRIC, CheckKind.LABEL, CheckKind.SCORE})
"""What another model decides."""


@dataclass(frozen=True, kw_only=True)
class JudgeTurn:
    """A turn that a judge reads."""

    role: str
    content: Text


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check. ``reference`` is what the input is compared with; of JSON kinds ``schema`` is optional."""

    kind: CheckKind
    name: str = ""
    input: Text = ANSWER
    reference: Text = ()
    value: Any = None
    """Of ``equals`` an object that the answer must be as JSON; of JSON kinds the schema."""
    is_negated: bool = False
    threshold: float | None = None
    weight: float = 1.0
    metric: str = ""
    """Of ``similarity``: ``fuzzy_match``, ``bleu``, ``gleu``, ``rouge_1`` … ``rouge_5`` or ``rouge_l``."""
    turns: tuple[JudgeTurn, ...] = ()
    labels: tuple[str, ...] = ()
    passing_labels: tuple[str, ...] = ()
    range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a check held, how well (0 to 1, of ``score_model`` in its range), and why not."""

    passed: bool
    score: float
    reason: str = ""


def filled(text: Text, answer: str) -> str:
    """The text with the answer in its places."""
    return "".join(answer if part is None else part for part in text)


def decide(check: Check, answer: str) -> Verdict:
    """What a check that needs no judge says of an answer."""
    subject, reference = filled(check.input, answer), filled(check.reference, answer)
    if check.kind is CheckKind.SIMILARITY:
        score = LIKENESSES[check.metric](subject, reference)
        passed = score >= (1.0 if check.threshold is None else check.threshold)
        return Verdict(passed=passed, score=score, reason="" if passed else f"{check.metric} is {score:.3f}")
    holds, reason = _holds(check, subject, reference)
    passed = holds != check.is_negated
    told = "" if passed else reason or f"{'not-' if check.is_negated else ''}{check.kind} {_short(reference)}"
    return Verdict(passed=passed, score=float(passed), reason=told)


def total(checks: tuple[Check, ...], verdicts: tuple[Verdict, ...], threshold: float | None) -> Verdict:
    """All checks of one answer: their weighted mean, which passes where each does or where it reaches ``threshold``."""
    weight = sum(check.weight for check in checks)
    score = sum(check.weight * one.score for check, one in zip(checks, verdicts, strict=True))
    mean = score / weight if weight else 1.0
    needed = [one for check, one in zip(checks, verdicts, strict=True) if check.weight > 0]
    passed = all(one.passed for one in needed) if threshold is None else mean >= threshold
    reasons = "; ".join(one.reason for one in verdicts if one.reason)
    return Verdict(passed=passed, score=mean, reason="" if passed else reasons)


def _holds(check: Check, subject: str, reference: str) -> tuple[bool, str]:
    match check.kind:
        case CheckKind.EQUALS if check.value is not None:
            return _is_value(subject, check.value), ""
        case CheckKind.EQUALS:
            return subject == reference, ""
        case CheckKind.CONTAINS:
            return reference in subject, ""
        case CheckKind.ICONTAINS:
            return reference.lower() in subject.lower(), ""
        case CheckKind.STARTS_WITH:
            return subject.startswith(reference), ""
        case CheckKind.REGEX:
            return compiled(reference).search(subject) is not None, ""
        case CheckKind.IS_JSON:
            return _json_holds([subject], check)
        case CheckKind.CONTAINS_JSON:
            return _json_holds(_json_texts(subject), check)
    raise ValueError(f"{check.kind} needs a judge")


def _is_value(subject: str, value: Any) -> bool:
    try:
        return bool(json.loads(subject) == value)
    except (ValueError, RecursionError):
        return False


def _json_holds(texts: Iterator[str] | list[str], check: Check) -> tuple[bool, str]:
    reason = "no JSON"
    for text in texts:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if check.value is None:
            return True, ""
        problem = problem_of(value, check.value)
        if problem is None:
            return True, ""
        reason = problem
    return False, reason


MAX_BEGINNINGS = 1000


def _json_texts(text: str) -> Iterator[str]:
    """Every object or list in a text, outermost first; one inside another is not looked at again."""
    decoder, at = json.JSONDecoder(), 0
    for _ in range(MAX_BEGINNINGS):
        begins = [place for mark in "{[" if (place := text.find(mark, at)) >= 0]
        if not begins:
            return
        begin = min(begins)
        try:
            _, end = decoder.raw_decode(text, begin)
            yield text[begin:end]
            at = end
        except (ValueError, RecursionError):
            at = begin + 1


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")


def as_text(value: Any) -> str:
    """A value of a file as a text to compare with."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping | list | bool) else str(value)
