"""The field `gate` of a job, which OpenAI's API does not have: the contract's `GateSpec` in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.api.http.prompts.fields import Fields
from graft.server.releases.draft import grader_metric, read_canary, read_gate
from graft.server.releases.policy.canary import CanarySpec
from graft.server.releases.policy.gate import EvaluationTask, GateSpec, GraderMetric, Metric, ValidationLoss
from graft.server.runtime.violations import Violations, shown

_METRICS = ("validation_loss", "task", "grader")
_FIELDS = (*_METRICS, "file", "min_gain_over_base", "min_gain_over_stable", "max_rows", "canary")
_CANARY = ("share_percent", "num_answers", "max_false_alarm", "tolerance", "needs_outcomes")


def read_gate_object(value: Any, violations: Violations) -> GateSpec | None:
    """None where none is given, or what is given is no object. What is wrong is added."""
    given = _object(value, "gate", violations)
    if given is None:
        return None
    fields = Fields(given, _FIELDS, violations, where="gate.")
    return read_gate(
        metric=_metric(fields, violations),
        file=fields.text("file") or None,
        min_gain_over_base=_number(fields, "min_gain_over_base"),
        min_gain_over_stable=_number(fields, "min_gain_over_stable"),
        max_rows=_whole(fields, "max_rows"),
        canary=_canary(fields.get("canary"), violations),
        violations=violations,
    )


def gate_object(spec: GateSpec) -> dict[str, Any]:
    """As it is read."""
    match spec.metric:
        case ValidationLoss():
            metric: dict[str, Any] = {"validation_loss": {}}
        case EvaluationTask(name=name):
            metric = {"task": name}
        case GraderMetric(grader=grader):
            metric = {"grader": grader}
    return {
        **metric,
        "file": spec.file,
        "min_gain_over_base": spec.min_gain_over_base,
        "min_gain_over_stable": spec.min_gain_over_stable,
        "max_rows": spec.max_rows,
        "canary": None if spec.canary is None else dict(vars(spec.canary)),
    }


def _metric(fields: Fields, violations: Violations) -> Metric | None:
    """None where none is named, or what is named is none."""
    named = [name for name in _METRICS if fields.get(name) is not None]
    if len(named) > 1:
        fields.add(named[1], f"is given beside {named[0]}: a gate has one metric")
    match named[:1]:
        case ["validation_loss"]:
            _object(fields.get("validation_loss"), "gate.validation_loss", violations)
            return ValidationLoss()
        case ["task"]:
            return EvaluationTask(name=fields.text("task"))
        case ["grader"]:
            # What is wrong with it was added.
            return grader_metric(fields.get("grader"), "gate.grader", violations) or ValidationLoss()
    return None


def _canary(value: Any, violations: Violations) -> CanarySpec | None:
    given = _object(value, "gate.canary", violations)
    if given is None:
        return None
    fields = Fields(given, _CANARY, violations, where="gate.canary.")
    needs_outcomes = fields.get("needs_outcomes")
    if needs_outcomes is not None and not isinstance(needs_outcomes, bool):
        fields.add("needs_outcomes", f"is {shown(needs_outcomes)}; it is true or false")
    return read_canary(
        share_percent=_whole(fields, "share_percent"),
        num_answers=_whole(fields, "num_answers"),
        max_false_alarm=_number(fields, "max_false_alarm"),
        tolerance=_number(fields, "tolerance"),
        needs_outcomes=needs_outcomes is True,
        violations=violations,
        where="gate.canary",
    )


def _object(value: Any, name: str, violations: Violations) -> Mapping[str, Any] | None:
    if value is None or isinstance(value, dict):
        return value
    violations.add(name, f"is {shown(value)}; it must be an object")
    return None


def _number(fields: Fields, name: str) -> float | None:
    value = fields.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return None if value is None else float(value)
    fields.add(name, f"is {shown(value)}; it must be a number")
    return None


def _whole(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    fields.add(name, f"is {shown(value)}; it must be a whole number")
    return None
