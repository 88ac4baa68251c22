"""What is asked of a gate, a canary or by a report, judged as a whole: a value, or all reasons why not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graft.server.releases.policy.canary import CanarySpec
from graft.server.releases.policy.gate import EvaluationTask, GateReport, GateSpec, GraderMetric, Metric, ValidationLoss
from graft.server.runtime.violations import Violations, shown

MAX_ANSWERS, MAX_ROWS = 1_000_000, 10_000
_MAX_TASK_CHARACTERS = 200
_MAX_SENTENCES, _MAX_CHARACTERS = 100, 2_000
_MAX_RESPONSE_CHARACTERS = 160
_DEFAULT = CanarySpec()


def read_canary(
    *,
    share_percent: int | None,
    num_answers: int | None,
    max_false_alarm: float | None,
    tolerance: float | None,
    needs_outcomes: bool,
    violations: Violations,
    where: str,
) -> CanarySpec:
    """What is None is as by default; what is wrong is added, named below `where`."""
    share = _DEFAULT.share_percent if share_percent is None else share_percent
    num = _DEFAULT.num_answers if num_answers is None else num_answers
    alarm = _DEFAULT.max_false_alarm if max_false_alarm is None else max_false_alarm
    least = _DEFAULT.tolerance if tolerance is None else tolerance
    if not 1 <= share <= 99:
        problem = f"is {share}; allowed are 1 to 99: what is compared needs both sides (100: set the alias stable)"
        violations.add(f"{where}.share_percent", problem)
    if not 1 <= num <= MAX_ANSWERS:
        violations.add(f"{where}.num_answers", f"is {num}; allowed are 1 to {MAX_ANSWERS}")
    if not 1e-9 <= alarm <= 0.5:
        violations.add(f"{where}.max_false_alarm", f"is {alarm:g}; allowed are 1e-9 to 0.5")
    if not 0 <= least <= 1:
        violations.add(f"{where}.tolerance", f"is {least:g}; allowed are 0 to 1")
    return CanarySpec(
        share_percent=share,
        num_answers=num,
        max_false_alarm=alarm,
        tolerance=least,
        needs_outcomes=needs_outcomes,
    )


def read_gate(
    *,
    metric: Metric | None,
    file: str | None,
    min_gain_over_base: float | None,
    min_gain_over_stable: float | None,
    max_rows: int | None,
    canary: CanarySpec | None,
    violations: Violations,
    where: str = "gate",
) -> GateSpec:
    """As `read_canary`. Whether there are held-out rows is `check_rows`'."""
    if metric is None:
        violations.add(where, "has no metric: give validation_loss, a task, or a grader")
    if isinstance(metric, EvaluationTask) and not 1 <= len(metric.name) <= _MAX_TASK_CHARACTERS:
        violations.add(f"{where}.task", f"has {len(metric.name)} characters; it has 1 to {_MAX_TASK_CHARACTERS}")
    for name, value in (("base", min_gain_over_base), ("stable", min_gain_over_stable)):
        if value is not None and not math.isfinite(value):
            violations.add(f"{where}.min_gain_over_{name}", f"is {value}; it must be a finite number")
    if max_rows is not None and not 1 <= max_rows <= MAX_ROWS:
        violations.add(f"{where}.max_rows", f"is {max_rows}; allowed are 1 to {MAX_ROWS}")
    return GateSpec(
        metric=metric or ValidationLoss(),
        file=file,
        min_gain_over_base=min_gain_over_base or 0.0,
        min_gain_over_stable=min_gain_over_stable or 0.0,
        max_rows=200 if max_rows is None else max_rows,
        canary=canary,
    )


def check_rows(
    spec: GateSpec, training_file: str, validation_file: str | None, violations: Violations, where: str = "gate"
) -> None:
    """Whether the gate has rows to ask, and none that are trained on."""
    if isinstance(spec.metric, EvaluationTask):
        if spec.file is not None:
            violations.add(f"{where}.file", "is given beside a task, which brings its own rows; leave one out")
    elif spec.file is None and validation_file is None:
        violations.add(f"{where}.file", "is missing, and so is validation_file: give held-out rows by one of them")
    elif spec.file == training_file:
        violations.add(f"{where}.file", "is the training file: what is learned says nothing about what is not")


def check_report(report: GateReport, violations: Violations, where: str = "report") -> None:
    """Whether its figures are figures."""
    compared = [("base", report.base), ("stable", report.stable)]
    figures = [("candidate", report.candidate)]
    if report.own_over_others is not None:
        figures.append(("own_over_others", report.own_over_others))
    for side, one in compared:
        figures += [] if one is None else [(f"{side}.score", one.score), (f"{side}.gain", one.gain)]
    for name, figure in figures:
        if not all(map(math.isfinite, (figure.value, figure.low, figure.high))):
            violations.add(f"{where}.{name}", "has a part that is no finite number")
        elif not figure.low <= figure.high:
            violations.add(f"{where}.{name}", f"has the interval {figure.low:g} to {figure.high:g}, which is empty")
    if report.num_questions < 0:
        violations.add(f"{where}.num_questions", f"is {report.num_questions}; it counts from 0")
    if not 1 <= len(report.metric) <= _MAX_TASK_CHARACTERS:
        violations.add(f"{where}.metric", f"has {len(report.metric)} characters; it has 1 to {_MAX_TASK_CHARACTERS}")
    if len(report.contamination) > _MAX_SENTENCES or any(len(one) > _MAX_CHARACTERS for one in report.contamination):
        problem = f"has more than {_MAX_SENTENCES} sentences, or one of more than {_MAX_CHARACTERS} characters"
        violations.add(f"{where}.contamination", problem)


def grader_metric(value: object, where: str, violations: Violations) -> GraderMetric | None:
    """An object is taken as it is: the grading room reads it where it is run."""
    if not isinstance(value, Mapping):
        violations.add(where, f"is {shown(value)}; it must be an object")
        return None
    grader: Mapping[str, Any] = value
    return GraderMetric(grader=grader)


def read_outcome(response: str, outcome: object, violations: Violations) -> tuple[str, float]:
    """Of which reply, and how good it was. Raises `BadInput`, `violations` before it too."""
    if not 1 <= len(response) <= _MAX_RESPONSE_CHARACTERS:
        problem = f"has {len(response)} characters: give the reply's id or its x-request-id, which have 1 to"
        violations.add("response", f"{problem} {_MAX_RESPONSE_CHARACTERS}")
    is_number = isinstance(outcome, int | float) and not isinstance(outcome, bool)
    if not is_number or not 0 <= outcome <= 1:  # type: ignore[operator]
        violations.add("outcome", f"is {shown(outcome)}; it is a number from 0, useless, to 1")
    violations.raise_any()
    return response, float(outcome)  # type: ignore[arg-type]
