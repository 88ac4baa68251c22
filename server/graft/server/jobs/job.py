"""What a job is: what was asked, how far it is, what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from graft.adapters.catalog.fine_tuned import name_of
from graft.server.jobs.plan import JobPlan
from graft.server.jobs.policy.states import JobState
from graft.server.releases.policy.gate import GateSpec
from graft.server.runtime.ids import Ids

job_ids = Ids("ftjob-")
Level = Literal["info", "warn", "error"]
Hyperparameter = int | float | str
MAX_SEED = 2**31 - 1


class Method(StrEnum):
    """What is done with the training file, in OpenAI's words; `REWARD` is ours."""

    SUPERVISED = "supervised"
    DPO = "dpo"
    REINFORCEMENT = "reinforcement"
    REWARD = "reward"


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What was asked; it never changes. A hyperparameter may be `auto`."""

    method: Method
    model: str
    training_file: str
    validation_file: str | None = None
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)
    grader: Mapping[str, Any] | None = None
    seed: int | None = None
    """As asked; of a job that was made it is a number."""
    suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    """Among the tenant's own jobs; the highest is next."""
    adapter: str | None = None
    """The tenant's adapter that the versions go to; None: one of the job's own."""
    from_checkpoint: str | None = None
    """What to go on from, as the caller named it; None: from `model`."""
    dry_run: bool = False
    """Nothing is trained: what would be done is told."""
    n_evals: int | None = None
    """How often the validation file is looked at; None: the method decides."""
    gate: GateSpec | None = None
    """What its version must show before it answers for the adapter; None: nothing."""

    @property
    def named_files(self) -> dict[str, str]:
        """Those that it needs, by the field that names them."""
        named = {
            "training_file": self.training_file,
            "validation_file": self.validation_file,
            "gate.file": None if self.gate is None else self.gate.file,
        }
        return {field: file for field, file in named.items() if file is not None}

    @property
    def files(self) -> tuple[str, ...]:
        """Those that it needs, each once."""
        return tuple(dict.fromkeys(self.named_files.values()))


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed. `param` is the request's field that was the cause, if one was."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a job has made: a version of an adapter, and files that tell how."""

    adapter: str
    version_digest: str
    trained_tokens: int
    result_files: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Start:
    """The version of an adapter that a training goes on from."""

    adapter: str
    version_digest: str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a worker says it is. What it has not said is None."""

    step: int | None = None
    num_steps: int | None = None
    trained_tokens: int | None = None
    remaining_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is now. `resolved` are the hyperparameters of this very run, where its worker has said them."""

    id: str
    tenant: str
    spec: JobSpec
    state: JobState
    create_time: datetime
    finish_time: datetime | None = None
    error: JobError | None = None
    result: JobResult | None = None
    start: Start | None = None
    """None where it begins from the base."""
    plan: JobPlan | None = None
    """Of a dry run that has ended."""
    progress: Progress = field(default_factory=Progress)
    resolved: Mapping[str, Hyperparameter] = field(default_factory=dict)
    worker: str | None = None
    fence: int = 0
    num_events: int = 0

    @property
    def adapter(self) -> str:
        """The adapter that its versions go to."""
        return self.spec.adapter or adapter_of(self.id)


@dataclass(frozen=True, kw_only=True)
class News:
    """Something that is to be told of a job."""

    message: str
    level: Level = "info"
    data: Mapping[str, Any] | None = None
    is_metrics: bool = False


@dataclass(frozen=True, kw_only=True)
class JobEvent:
    """News of a job, numbered from 1 without a gap, and the state that the job had then."""

    job: str
    number: int
    create_time: datetime
    news: News
    state: JobState


@dataclass(frozen=True, kw_only=True)
class JobCheckpoint:
    """A step from which another worker can go on, as a version of an adapter. `metrics` are OpenAI's names."""

    job: str
    step: int
    create_time: datetime
    version_digest: str
    metrics: Mapping[str, float]


def short_id(job: str) -> str:
    """Of a job's id, what stands in names: its ULID."""
    return job.removeprefix("ftjob-")


def adapter_of(job: str) -> str:
    """The adapter that the job with this id makes where it was asked for none."""
    return f"ft-{short_id(job)}"


def model_name(job: Job, *, base: str, step: int | None = None) -> str:
    """`ft:<base>:<tenant>:<suffix>:<job>`, of a checkpoint with `:ckpt-step-N` behind it."""
    return name_of(base=base, tenant=job.tenant, suffix=job.spec.suffix or "", job=short_id(job.id), step=step)
