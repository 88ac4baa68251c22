"""The field `gate` of a job, which OpenAI's API does not have: the contract's `GateSpec` in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft.server.api.http.prompts.fields import Fields
from graft.server.releases.draft import grader_metric, read_canary, read_gate
from graft.server.releases.policy.canary import CanarySpec
from graft.server.releases.policy.gate import EvaluationTask, GateSpec, GraderMetric, Metric, ValidationLoss
from graft.server.runtime.violations import Violations

_METRICS = ("validation_loss", "task", "grader")
_FIELDS = (*_METRICS, "file", "min_gain_over_base", "min_gain_over_stable", "max_rows", "canary")
_CANARY = ("share_percent", "num_answers", "max_false_alarm", "tolerance", "needs_outcomes")


def read_gate_object(given: Mapping[str, Any] | None, violations: Violations) -> GateSpec | None:
    """None where none is given. What is wrong is added."""
    if given is None:
        return None
    fields = Fields(given, _FIELDS, violations, where="gate.")
    return read_gate(
        metric=_metric(fields, violations),
        file=fields.text("file") or None,
        min_gain_over_base=fields.real("min_gain_over_base"),
        min_gain_over_stable=fields.real("min_gain_over_stable"),
        max_rows=fields.whole("max_rows"),
        canary=_canary(fields.object("canary"), violations),
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
            fields.object("validation_loss")
            return ValidationLoss()
        case ["task"]:
            return EvaluationTask(name=fields.text("task"))
        case ["grader"]:
            # What is wrong with it was added.
            return grader_metric(fields.get("grader"), "gate.grader", violations) or ValidationLoss()
    return None


def _canary(given: Mapping[str, Any] | None, violations: Violations) -> CanarySpec | None:
    if given is None:
        return None
    fields = Fields(given, _CANARY, violations, where="gate.canary.")
    return read_canary(
        share_percent=fields.whole("share_percent"),
        num_answers=fields.whole("num_answers"),
        max_false_alarm=fields.real("max_false_alarm"),
        tolerance=fields.real("tolerance"),
        needs_outcomes=fields.truth("needs_outcomes"),
        violations=violations,
        where="gate.canary",
    )
