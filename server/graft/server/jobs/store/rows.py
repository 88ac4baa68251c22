"""Rows of the tables of jobs as values, and values as rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from graft.server.jobs.job import (
    Job,
    JobCheckpoint,
    JobError,
    JobEvent,
    JobResult,
    JobSpec,
    Method,
    News,
    Progress,
    Start,
)
from graft.server.jobs.plan import JobPlan
from graft.server.jobs.policy.states import JobState
from graft.server.releases.store.rows import gate as read_gate_row
from graft.server.releases.store.rows import gate_row
from graft.server.runtime.known import known


def spec_row(spec: JobSpec) -> dict[str, Any]:
    """As JSON."""
    return asdict(spec) | {
        "method": spec.method.value,
        "gate": None if spec.gate is None else gate_row(spec.gate),
    }


def spec(row: dict[str, Any]) -> JobSpec:
    """What `spec_row` wrote, or a newer server's."""
    gate = row.get("gate")
    values = known(JobSpec, row) | {
        "method": Method(row["method"]),
        "gate": None if gate is None else read_gate_row(gate),
    }
    return JobSpec(**values)


def job(row: sa.RowMapping) -> Job:
    """A row of `jobs`."""
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        spec=spec(row["spec"]),
        state=JobState(row["state"]),
        create_time=row["create_time"],
        finish_time=row["finish_time"],
        error=None if row["error"] is None else JobError(**known(JobError, row["error"])),
        result=None if row["result"] is None else _result(row["result"]),
        start=None if row["start"] is None else Start(**known(Start, row["start"])),
        plan=None if row["plan"] is None else JobPlan.of_row(row["plan"]),
        progress=Progress(**known(Progress, row["progress"])),
        resolved=row["resolved"],
        worker=row["worker"],
        fence=row["fence"],
        num_events=row["num_events"],
    )


def _result(row: dict[str, Any]) -> JobResult:
    return JobResult(**known(JobResult, row) | {"result_files": tuple(row["result_files"])})


def event(row: sa.RowMapping) -> JobEvent:
    """A row of `job_events`."""
    news = News(message=row["message"], level=row["level"], data=row["data"], is_metrics=row["is_metrics"])
    return JobEvent(
        job=row["job"],
        number=row["number"],
        create_time=row["create_time"],
        news=news,
        state=JobState(row["state"]),
    )


def checkpoint(row: sa.RowMapping) -> JobCheckpoint:
    """A row of `job_checkpoints`."""
    return JobCheckpoint(**row)
