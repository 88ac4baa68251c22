"""Gates, reports and rollouts as messages, and messages as what they mean."""

from __future__ import annotations

from graft.server.api.grpc.values import read_struct
from graft.server.releases.draft import read_canary, read_gate
from graft.server.releases.policy.canary import CanarySpec, Tally
from graft.server.releases.policy.gate import (
    Comparison,
    EvaluationTask,
    Figure,
    GateReport,
    GateSpec,
    GraderMetric,
    Metric,
    ValidationLoss,
)
from graft.server.releases.policy.stages import Stage
from graft.server.releases.rollout import Rollout
from graft.server.runtime.violations import Violations
from graft.v1 import job_pb2
from graft.v1 import release_pb2 as pb

STAGES = {stage: pb.RolloutStage.Value(f"ROLLOUT_STAGE_{stage.name}") for stage in Stage}


def gate_message(spec: GateSpec) -> job_pb2.GateSpec:
    message = job_pb2.GateSpec(
        file=spec.file or "",
        min_gain_over_base=spec.min_gain_over_base,
        min_gain_over_stable=spec.min_gain_over_stable,
        max_rows=spec.max_rows,
        canary=None if spec.canary is None else canary_message(spec.canary),
    )
    match spec.metric:
        case ValidationLoss():
            message.validation_loss.SetInParent()
        case EvaluationTask(name=name):
            message.task = name
        case GraderMetric(grader=grader):
            message.grader.update(dict(grader))
    return message


def read_gate_message(message: job_pb2.GateSpec, violations: Violations, where: str) -> GateSpec:
    """What is wrong is added."""

    def said(name: str) -> float | None:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]

    metric: Metric | None = None
    match message.WhichOneof("metric"):
        case "validation_loss":
            metric = ValidationLoss()
        case "task":
            metric = EvaluationTask(name=message.task)
        case "grader":
            metric = GraderMetric(grader=read_struct(message.grader, f"{where}.grader", violations))
    canary = read_canary_message(message.canary, violations, f"{where}.canary") if message.HasField("canary") else None
    return read_gate(
        metric=metric,
        file=message.file or None,
        min_gain_over_base=said("min_gain_over_base"),
        min_gain_over_stable=said("min_gain_over_stable"),
        max_rows=message.max_rows or None,
        canary=canary,
        violations=violations,
        where=where,
    )


def canary_message(spec: CanarySpec) -> job_pb2.CanarySpec:
    return job_pb2.CanarySpec(
        share_percent=spec.share_percent,
        num_answers=spec.num_answers,
        max_false_alarm=spec.max_false_alarm,
        tolerance=spec.tolerance,
        needs_outcomes=spec.needs_outcomes,
    )


def read_canary_message(message: job_pb2.CanarySpec, violations: Violations, where: str) -> CanarySpec:
    """What is wrong is added."""
    return read_canary(
        share_percent=message.share_percent or None,
        num_answers=message.num_answers or None,
        max_false_alarm=message.max_false_alarm if message.HasField("max_false_alarm") else None,
        tolerance=message.tolerance if message.HasField("tolerance") else None,
        needs_outcomes=message.needs_outcomes,
        violations=violations,
        where=where,
    )


def read_report(message: pb.GateReport) -> GateReport:
    return GateReport(
        metric=message.metric,
        higher_is_better=message.higher_is_better,
        num_questions=message.num_questions,
        candidate=_read_figure(message.candidate),
        base=_read_comparison(message.base),
        stable=_read_comparison(message.stable) if message.HasField("stable") else None,
        contamination=tuple(message.contamination),
        own_over_others=_read_figure(message.own_over_others) if message.HasField("own_over_others") else None,
    )


def rollout_message(rollout: Rollout) -> pb.Rollout:
    message = pb.Rollout(
        name=f"rollouts/{rollout.id}",
        id=rollout.id,
        adapter=rollout.adapter,
        version_digest=rollout.version_digest,
        stable_digest=rollout.stable_digest or "",
        stage=STAGES[rollout.stage],
        canary=None if rollout.canary is None else canary_message(rollout.canary),
        report=None if rollout.report is None else _report_message(rollout.report),
        reasons=rollout.reasons,
        canary_tally=_tally_message(rollout.canary_tally),
        stable_tally=_tally_message(rollout.stable_tally),
        job=rollout.job or "",
    )
    message.create_time.FromDatetime(rollout.create_time)
    if rollout.end_time is not None:
        message.end_time.FromDatetime(rollout.end_time)
    return message


def _report_message(report: GateReport) -> pb.GateReport:
    return pb.GateReport(
        metric=report.metric,
        higher_is_better=report.higher_is_better,
        num_questions=report.num_questions,
        candidate=_figure_message(report.candidate),
        base=_comparison_message(report.base),
        stable=None if report.stable is None else _comparison_message(report.stable),
        contamination=report.contamination,
        own_over_others=None if report.own_over_others is None else _figure_message(report.own_over_others),
    )


def _comparison_message(one: Comparison) -> pb.GateComparison:
    return pb.GateComparison(
        version_digest=one.digest or "", score=_figure_message(one.score), gain=_figure_message(one.gain)
    )


def _figure_message(figure: Figure) -> pb.GateFigure:
    return pb.GateFigure(value=figure.value, low=figure.low, high=figure.high)


def _tally_message(tally: Tally) -> pb.RolloutTally:
    return pb.RolloutTally(
        num_answers=tally.num_answers,
        num_errors=tally.num_errors,
        num_outcomes=tally.num_outcomes,
        mean_outcome=tally.sum_outcomes / tally.num_outcomes if tally.num_outcomes else 0.0,
    )


def _read_comparison(message: pb.GateComparison) -> Comparison:
    return Comparison(
        digest=message.version_digest or None, score=_read_figure(message.score), gain=_read_figure(message.gain)
    )


def _read_figure(message: pb.GateFigure) -> Figure:
    return Figure(value=message.value, low=message.low, high=message.high)
