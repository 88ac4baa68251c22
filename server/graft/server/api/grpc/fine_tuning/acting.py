"""Workers: who may be one, and what one may do for a job at other services."""

from __future__ import annotations

from dataclasses import dataclass

from graft.server.errors import BadInput, Forbidden, Violation
from graft.server.jobs.job import Job
from graft.server.jobs.jobs import Jobs
from graft.server.jobs.policy.lease import Term
from graft.server.jobs.store.working import Holder
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import shown

HEADER = "graft-job"
"""`<id>:<fence>`, as the claim was answered."""
_ACTS = frozenset(
    {
        "/graft.v1.AdapterService/DeleteVersion",
        "/graft.v1.AdapterService/DownloadVersion",
        "/graft.v1.AdapterService/GetAdapter",
        "/graft.v1.AdapterService/GetVersion",
        "/graft.v1.AdapterService/ImportVersion",
        "/graft.v1.AdapterService/ListVersions",
        "/graft.v1.AdapterService/MergeVersions",
        "/graft.v1.AdapterService/PrefetchVersion",
        "/graft.v1.AdapterService/SetAlias",
        "/graft.v1.AdapterService/UploadVersion",
        "/graft.v1.FileService/DownloadFile",
        "/graft.v1.FileService/GetFile",
        "/graft.v1.FileService/UploadFile",
        "/graft.v1.GradingService/Grade",
        "/graft.v1.InferenceService/Classify",
        "/graft.v1.InferenceService/Generate",
        "/graft.v1.InferenceService/Score",
        "/graft.v1.InferenceService/Tokenize",
        "/graft.v1.ReleaseService/DecideRollout",
    }
)


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who may work: `tenant`'s callers, or everybody where it is None; and for how long each may be silent."""

    tenant: str | None
    term: Term

    def check(self) -> None:
        """Of the current caller. Raises `Forbidden`: a worker sees the jobs of all tenants."""
        self.check_tenant(current_tenant())

    def check_tenant(self, tenant: str) -> None:
        """Raises `Forbidden`."""
        if self.tenant is not None and tenant != self.tenant:
            raise Forbidden("only workers may ask for this: come with a token of the tenant that worker_tenant names")


class Acting:
    """Finds the job for which a worker calls another service."""

    def __init__(self, jobs: Jobs, workers: Workers) -> None:
        self._jobs = jobs
        self._workers = workers

    async def __call__(self, said: str, *, caller: str, method: str) -> Job:
        """The job that the header names, while the caller's worker has it. `method` is the call's path.

        Raises `Forbidden`, `BadInput`, `NoSuchResource`, `LeaseLost`.
        """
        self._workers.check_tenant(caller)
        if method not in _ACTS:
            known = ", ".join(sorted(one.removeprefix("/graft.v1.") for one in _ACTS))
            raise Forbidden(f"{HEADER}: {method.removeprefix('/graft.v1.')} is not done for a job; there are {known}")
        job, _, fence = said.partition(":")
        if not (fence.isascii() and fence.isdigit() and len(fence) < 10):
            problem = f"is {shown(said)}; it is <id of a job>:<fence>, as the claim was answered"
            raise BadInput(Violation(field=HEADER, problem=problem))
        return await self._jobs.holding(Holder(job=job, fence=int(fence)))
