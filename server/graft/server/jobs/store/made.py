"""What a worker says that it has made, compared with what is there, in the transaction that keeps the word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import sqlalchemy as sa

from graft.adapters.adapter import AdapterVersion
from graft.adapters.catalog import reads as catalog
from graft.adapters.errors import IncompatibleAdapter, InvalidReference, NotFound
from graft.server.errors import BadInput, NoSuchResource, Violation
from graft.server.files import reads as files
from graft.server.files.file import Purpose
from graft.server.jobs.job import Job, JobResult
from graft.server.jobs.plan import JobPlan
from graft.server.runtime.violations import Violations

Fits = Callable[[AdapterVersion], None]
"""Raises IncompatibleAdapter for a version that is not the served base's."""


def check_result(connection: sa.Connection, job: Job, result: JobResult, *, fits: Fits, now: datetime) -> None:
    """The version lies under the job's adapter and fits the base; the files are results of the job's tenant.

    Raises `BadInput` with all that is wrong.
    """
    violations = Violations()
    if result.adapter != job.adapter:
        violations.add("result.adapter", f"is {result.adapter[:100]!r}; {job.id} pushes to {job.adapter}")
    _check_version(connection, job, result.version_digest, "result.version_digest", fits, violations)
    for index, name in enumerate(violations.until_full(result.result_files)):
        field = f"result.result_files[{index}]"
        try:
            file = files.get(connection, job.tenant, name, now=now)
        except NoSuchResource as error:
            violations.add(field, str(error))
            continue
        if file.purpose is not Purpose.FINE_TUNE_RESULTS:
            violations.add(field, f"{name} was uploaded for {file.purpose}, not for {Purpose.FINE_TUNE_RESULTS}")
    violations.raise_any()


def check_kind(job: Job, outcome: JobResult | JobPlan) -> None:
    """A dry run ends with a plan, every other job with a result. Raises `BadInput`."""
    if job.spec.dry_run and not isinstance(outcome, JobPlan):
        problem = f"is a result, and {job.id} is a dry run: say its plan"
    elif not job.spec.dry_run and isinstance(outcome, JobPlan):
        problem = f"is a plan, and {job.id} is no dry run: say its result"
    else:
        return
    raise BadInput(Violation(field="outcome", problem=problem))


def check_checkpoints(connection: sa.Connection, job: Job, digests: Iterable[str], *, fits: Fits) -> None:
    """Each is a version under the job's adapter that fits the base. Raises `BadInput` with all that is wrong."""
    violations = Violations()
    for index, digest in enumerate(violations.until_full(digests)):
        _check_version(connection, job, digest, f"checkpoints[{index}].version_digest", fits, violations)
    violations.raise_any()


def _check_version(
    connection: sa.Connection, job: Job, digest: str, field: str, fits: Fits, violations: Violations
) -> None:
    try:
        version = catalog.get_version(connection, job.tenant, job.adapter, digest)
        fits(version)
    except (NotFound, InvalidReference, IncompatibleAdapter) as error:
        violations.add(field, str(error))
        return
    if version.digest != digest:
        violations.add(field, f"is {digest[:100]!r}; the whole digest is {version.digest}")
