"""Rows that another version of the server has written."""

from __future__ import annotations

import json
from dataclasses import asdict

import sqlalchemy as sa

from graft.server.jobs import tables
from graft.server.jobs.job import JobError, Progress, Start
from graft.server.jobs.plan import JobPlan, Piece, PlannedExample
from graft.server.jobs.store import rows
from graft.server.jobs.store.working import Report
from tests.server.jobs.keeping import KeptJobs, holder

NEW = {"a_field_to_come": [1]}


def test_what_a_newer_server_wrote_is_read_without_what_is_not_known() -> None:
    kept = KeptJobs()
    kept.queued(suffix="s")
    claimed = kept.claimed()
    job = kept.catalog.report(holder(claimed), Report(number=1, progress=Progress(step=3)))
    counts = ("num_rows", "num_examples", "num_tokens", "num_learned_tokens", "num_cut", "num_dropped", "num_steps")
    example = PlannedExample(row=1, pieces=(Piece(text="t", is_learned=True),))
    plan = JobPlan(**dict.fromkeys(counts, 1), trained_tokens=1, examples=(example,))  # type: ignore[arg-type]
    result, start, error = kept.result(job), Start(adapter="a", version_digest="d"), JobError(code="c", message="m")
    written = {"start": asdict(start) | NEW, "error": asdict(error) | NEW, "progress": asdict(job.progress) | NEW}
    written |= {"spec": rows.spec_row(job.spec) | NEW, "result": asdict(result) | NEW, "plan": asdict(plan) | NEW}
    written = json.loads(json.dumps(written))
    written["plan"]["examples"][0]["pieces"][0] |= NEW
    kept.database.write(lambda connection: connection.execute(sa.update(tables.jobs).values(**written)))
    found = kept.catalog.get("default", job.id)
    assert (found.spec, found.progress, found.start, found.error) == (job.spec, job.progress, start, error)
    assert (found.result, found.plan) == (result, plan)
    kept.database.close()
