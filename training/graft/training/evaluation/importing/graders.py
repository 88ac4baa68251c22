"""OpenAI's graders as checks; every other is refused by name with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.training.evaluation.checks.check import Check, CheckKind, JudgeTurn, Text
from graft.training.evaluation.checks.likeness import LIKENESSES
from graft.training.evaluation.importing.code import NEVER
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.template import BadTemplate, parse

ANSWER = "sample.output_text"
OPERATIONS = {
    "eq": (CheckKind.EQUALS, False),
    "ne": (CheckKind.EQUALS, True),
    "like": (CheckKind.CONTAINS, False),
    "ilike": (CheckKind.ICONTAINS, False),
}
KEYS = {
    "string_check": {"type", "name", "input", "reference", "operation"},
    "text_similarity": {"type", "name", "input", "reference", "evaluation_metric", "pass_threshold"},
    "label_model": {"type", "name", "model", "input", "labels", "passing_labels", "sampling_params"},
    "score_model": {"type", "name", "model", "input", "range", "pass_threshold", "sampling_params"},
}
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
Make = Callable[[Mapping[str, Any]], Check]


@dataclass(frozen=True, kw_only=True)
class Grading:
    """The graders, to be filled with each item."""

    file: Located
    makers: Sequence[tuple[Place, Make]]

    def of(self, item: Mapping[str, Any], number: int) -> tuple[Check, ...]:
        """One item's checks. Notes fields that it lacks."""
        found = []
        for place, make in self.makers:
            try:
                found.append(make({"item": item}))
            except BadTemplate as problem:
                self.file.refuse(place, f"item {number}: {problem}")
        return tuple(found)


class Graders:
    """Reads ``testing_criteria``; notes what is not supported."""

    def __init__(self, file: Located) -> None:
        self._file = file

    def read(self) -> Grading:
        given = self._file.value["testing_criteria"]
        makers: list[tuple[Place, Make]] = []
        for index, one in enumerate(given if isinstance(given, list) else [given]):
            place: Place = ("testing_criteria", index) if isinstance(given, list) else ("testing_criteria",)
            make = self._one(place, one)
            if make is not None:
                makers.append((place, make))
        self._file.check()
        if not makers:
            self._file.refuse(("testing_criteria",), "there are no graders.")
            self._file.check()
        return Grading(file=self._file, makers=makers)

    def _one(self, place: Place, given: Any) -> Make | None:
        kind = given.get("type") if isinstance(given, dict) else None
        if kind == "python":
            self._file.refuse((*place, "type"), f"grader `python` {NEVER}")
            return None
        if kind not in KEYS:
            self._file.refuse((*place, "type"), f"grader `{kind}` is not supported; use {', '.join(KEYS)}.")
            return None
        self._file.unknown(place, given, KEYS[kind])
        match kind:
            case "string_check":
                return self._string_check(place, given)
            case "text_similarity":
                return self._similarity(place, given)
            case "label_model":
                return self._label(place, given)
        return self._score(place, given)

    def _string_check(self, place: Place, given: Mapping[str, Any]) -> Make | None:
        if given.get("operation") not in OPERATIONS:
            self._file.refuse((*place, "operation"), f"`operation` is one of {', '.join(OPERATIONS)}.")
            return None
        kind, is_negated = OPERATIONS[given["operation"]]
        compared, reference = self._text(place, given, "input"), self._text(place, given, "reference")
        name = str(given.get("name", "string_check"))
        return lambda values: Check(
            kind=kind, name=name, input=compared(values), reference=reference(values), is_negated=is_negated
        )

    def _similarity(self, place: Place, given: Mapping[str, Any]) -> Make | None:
        metric = given.get("evaluation_metric")
        if metric not in LIKENESSES:
            told = f"`evaluation_metric: {metric}` is not supported; use {', '.join(LIKENESSES)}."
            self._file.refuse((*place, "evaluation_metric"), told)
            return None
        threshold = self._number(place, given, "pass_threshold")
        compared, reference = self._text(place, given, "input"), self._text(place, given, "reference")
        name = str(given.get("name", "text_similarity"))
        return lambda values: Check(
            kind=CheckKind.SIMILARITY,
            name=name,
            input=compared(values),
            reference=reference(values),
            metric=str(metric),
            threshold=threshold,
        )

    def _label(self, place: Place, given: Mapping[str, Any]) -> Make | None:
        labels, passing = given.get("labels"), given.get("passing_labels")
        both = (labels, passing)
        if not all(isinstance(one, list) and one and all(isinstance(label, str) for label in one) for one in both):
            self._file.refuse(place, "`labels` and `passing_labels` must be lists of texts.")
            return None
        if not set(passing or ()) <= set(labels or ()):
            self._file.refuse((*place, "passing_labels"), "`passing_labels` must be among `labels`.")
            return None
        turns, name = self._turns(place, given), str(given.get("name", "label_model"))
        return lambda values: Check(
            kind=CheckKind.LABEL,
            name=name,
            turns=turns(values),
            labels=tuple(labels or ()),
            passing_labels=tuple(passing or ()),
        )

    def _score(self, place: Place, given: Mapping[str, Any]) -> Make | None:
        ends = given.get("range", [0, 1])
        is_range = isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, int | float) for end in ends)
        if not is_range or not ends[0] < ends[1]:
            self._file.refuse((*place, "range"), "`range` must be two numbers, the lower one first.")
            return None
        threshold = self._number(place, given, "pass_threshold")
        turns, name = self._turns(place, given), str(given.get("name", "score_model"))
        low, high = float(ends[0]), float(ends[1])
        return lambda values: Check(
            kind=CheckKind.SCORE, name=name, turns=turns(values), range=(low, high), threshold=threshold
        )

    def _number(self, place: Place, given: Mapping[str, Any], key: str) -> float | None:
        value = given.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            self._file.refuse((*place, key), f"`{key}` must be a number.")
            return None
        return None if value is None else float(value)

    def _text(self, place: Place, given: Mapping[str, Any], key: str) -> Callable[[Mapping[str, Any]], Text]:
        value = given.get(key)
        if not isinstance(value, str):
            self._file.refuse((*place, key), f"`{key}` must be a text.")
            return lambda values: ()
        try:
            template = parse(value)
        except BadTemplate as problem:
            self._file.refuse((*place, key), f"`{key}`: {problem}")
            return lambda values: ()
        return lambda values: template.pieces(values, answer=ANSWER)

    def _turns(self, place: Place, given: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], tuple[JudgeTurn, ...]]:
        try:
            messages = messages_of(self._file, (*place, "input"), given.get("input"))
            parsed = [(role, parse(text)) for role, text in messages]
        except BadTemplate as problem:
            self._file.refuse((*place, "input"), f"`input`: {problem}")
            parsed = []
        return lambda values: tuple(
            JudgeTurn(role=role, content=template.pieces(values, answer=ANSWER)) for role, template in parsed
        )


def messages_of(file: Located, place: Place, given: Any) -> list[tuple[str, str]]:
    """Roles and texts of messages; contents may be text parts. Notes what is not text."""
    found = []
    if not isinstance(given, list) or not given:
        raise BadTemplate("messages must be a list with a message at least.")
    for message in given:
        role = message.get("role") if isinstance(message, dict) else None
        text = _content(message.get("content")) if isinstance(message, dict) else None
        if role not in ROLES or text is None:
            raise BadTemplate(f"a message has a role ({', '.join(ROLES)}) and a text: {str(message)[:80]}.")
        found.append((ROLES[str(role)], text))
    return found


def _content(given: Any) -> str | None:
    if isinstance(given, str):
        return given
    parts = given if isinstance(given, list) else [given]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and str(part.get("type")).endswith("_text")]
    if len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        return None
    return "\n".join(map(str, texts))
