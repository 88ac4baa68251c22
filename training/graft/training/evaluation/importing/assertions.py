"""promptfoo's assertions as checks; every type that is not known is refused by name with its line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]

from graft.training.evaluation.checks.check import Check, CheckKind, as_text
from graft.training.evaluation.checks.patterns import BadPattern, compiled
from graft.training.evaluation.checks.schema import broken
from graft.training.evaluation.importing.code import NEVER, code_in
from graft.training.evaluation.tasks.located import Located, Place
from graft.training.evaluation.tasks.template import BadTemplate, parse

KINDS = {
    kind.value: kind
    for kind in (
        CheckKind.EQUALS, CheckKind.CONTAINS, CheckKind.ICONTAINS, CheckKind.REGEX, CheckKind.STARTS_WITH,
        CheckKind.IS_JSON, CheckKind.CONTAINS_JSON, CheckKind.RUBRIC,
    )
}  # fmt: skip
CODE_TYPES = ("javascript", "python", "ruby", "webhook", "perplexity-score")
KEYS = {"type", "value", "weight", "threshold", "metric", "provider"}


class Assertions:
    """Reads lists of assertions; notes what is not supported."""

    def __init__(self, file: Located) -> None:
        self._file = file

    def read(self, place: Place, given: Any, variables: Mapping[str, Any]) -> list[Check]:
        """The checks, their values filled with the test's variables."""
        if given is None:
            return []
        if not isinstance(given, list):
            self._file.refuse(place, "`assert` must be a list.")
            return []
        found = [self._one((*place, index), one, variables) for index, one in enumerate(given)]
        return [check for check in found if check is not None]

    def _one(self, place: Place, given: Any, variables: Mapping[str, Any]) -> Check | None:
        if not isinstance(given, dict) or not isinstance(given.get("type"), str):
            self._file.refuse(place, "an assertion is a mapping with `type`.")
            return None
        name = given["type"]
        base = name.removeprefix("not-")
        if base not in KINDS:
            said = (
                NEVER if base in CODE_TYPES else f"is not supported; use {', '.join(KINDS)}, or one with `not-` before."
            )
            self._file.refuse((*place, "type"), f"assertion `{name}` {said}")
            return None
        self._file.unknown(place, given, KEYS)
        value = given.get("value")
        if isinstance(value, str) and (code := code_in(value)):
            self._file.refuse((*place, "value"), f"assertion `{name}`: `{code}` {NEVER}")
            return None
        if isinstance(value, str) and value.startswith("file://"):
            self._file.refuse((*place, "value"), f"assertion `{name}`: write what `{value}` holds here.")
            return None
        return self._check(place, given, KINDS[base], variables, is_negated=base != name)

    def _check(
        self, place: Place, given: Mapping[str, Any], kind: CheckKind, variables: Mapping[str, Any], *, is_negated: bool
    ) -> Check | None:
        weight, threshold = given.get("weight", 1), given.get("threshold")
        for key, number in (("weight", weight), ("threshold", threshold)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float) or number < 0):
                self._file.refuse((*place, key), f"`{key}` must be a number from 0 on.")
                return None
        value = given.get("value")
        schema, reference = None, ""
        if kind in (CheckKind.IS_JSON, CheckKind.CONTAINS_JSON):
            schema = self._schema((*place, "value"), value)
        elif value is None:
            self._file.refuse(place, f"assertion `{given['type']}` needs `value`.")
            return None
        elif kind is CheckKind.EQUALS and isinstance(value, dict | list):
            schema = value
        else:
            reference = self._filled((*place, "value"), as_text(value), variables)
        if kind is CheckKind.REGEX:
            self._check_pattern((*place, "value"), reference)
        return Check(
            kind=kind,
            name=str(given.get("metric") or given["type"]),
            reference=(reference,),
            value=schema,
            is_negated=is_negated,
            threshold=None if threshold is None else float(threshold),
            weight=float(weight),
        )

    def _schema(self, place: Place, value: Any) -> Any:
        """A schema may be written as a text of YAML or JSON."""
        if isinstance(value, str):
            try:
                value = yaml.safe_load(value)
            except yaml.YAMLError:
                self._file.refuse(place, "the schema is no YAML or JSON.")
                return None
        if value is not None and (problem := broken(value)):
            self._file.refuse(place, problem)
        return value

    def _filled(self, place: Place, text: str, variables: Mapping[str, Any]) -> str:
        try:
            return parse(text).fill(variables)
        except BadTemplate as problem:
            self._file.refuse(place, f"value: {problem}")
            return ""

    def _check_pattern(self, place: Place, pattern: str) -> None:
        try:
            compiled(pattern)
        except BadPattern as problem:
            self._file.refuse(place, str(problem))
