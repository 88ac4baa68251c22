"""Rows of the tables of rollouts as values, and values as rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

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

_KINDS: dict[str, type[ValidationLoss] | type[EvaluationTask] | type[GraderMetric]] = {
    "validation_loss": ValidationLoss,
    "task": EvaluationTask,
    "grader": GraderMetric,
}
_KIND_OF = {kind: name for name, kind in _KINDS.items()}


def gate_row(spec: GateSpec) -> dict[str, Any]:
    """As JSON."""
    return asdict(spec) | {"metric": {"kind": _KIND_OF[type(spec.metric)], **asdict(spec.metric)}}


def gate(row: dict[str, Any]) -> GateSpec:
    """What `gate_row` wrote."""
    values = dict(row["metric"])
    metric: Metric = _KINDS[values.pop("kind")](**values)
    canary = None if row["canary"] is None else CanarySpec(**row["canary"])
    return GateSpec(**{**row, "metric": metric, "canary": canary})


def report_row(report: GateReport) -> dict[str, Any]:
    """As JSON."""
    return asdict(report) | {"contamination": list(report.contamination)}


def _report(row: dict[str, Any]) -> GateReport:
    stable = None if row["stable"] is None else _comparison(row["stable"])
    return GateReport(
        **{
            **row,
            "candidate": Figure(**row["candidate"]),
            "base": _comparison(row["base"]),
            "stable": stable,
            "contamination": tuple(row["contamination"]),
            "own_over_others": None if row["own_over_others"] is None else Figure(**row["own_over_others"]),
        }
    )


def _comparison(row: dict[str, Any]) -> Comparison:
    return Comparison(digest=row["digest"], score=Figure(**row["score"]), gain=Figure(**row["gain"]))


def tally_row(side: str, tally: Tally) -> dict[str, Any]:
    """The columns of one side."""
    return {
        f"{side}_answers": tally.num_answers,
        f"{side}_errors": tally.num_errors,
        f"{side}_outcomes": tally.num_outcomes,
        f"{side}_sum": tally.sum_outcomes,
    }


def rollout(row: sa.RowMapping) -> Rollout:
    """A row of `rollouts`."""
    return Rollout(
        id=row["id"],
        tenant=row["tenant"],
        adapter=row["adapter"],
        version_digest=row["version_digest"],
        stable_digest=row["stable_digest"],
        stage=Stage(row["stage"]),
        create_time=row["create_time"],
        end_time=row["end_time"],
        canary=None if row["canary"] is None else CanarySpec(**row["canary"]),
        report=None if row["report"] is None else _report(row["report"]),
        reasons=tuple(row["reasons"]),
        canary_tally=_tally(row, "canary"),
        stable_tally=_tally(row, "stable"),
        job=row["job"],
    )


def _tally(row: sa.RowMapping, side: str) -> Tally:
    return Tally(
        num_answers=row[f"{side}_answers"],
        num_errors=row[f"{side}_errors"],
        num_outcomes=row[f"{side}_outcomes"],
        sum_outcomes=row[f"{side}_sum"],
    )
