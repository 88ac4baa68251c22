"""All that a job's child needs, in one folder: it asks nobody else what it is to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from google.protobuf.json_format import MessageToDict, ParseDict

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.client.fine_tuning.values import values_of
from graft.training.errors import ConfigurationError
from graft.training.runtime.disk import replace_text
from graft.training.worker.lease import HOLD
from graft.v1 import job_pb2 as pb

FILE = "spec.json"
METHODS = {number: name.removeprefix("JOB_METHOD_").lower() for name, number in pb.JobMethod.items() if number}
"""By the number in the contract; each is a module of `methods`."""
_TRAINING, _VALIDATION, _GATE = "training.jsonl", "validation.jsonl", "gate.jsonl"


@dataclass(frozen=True, kw_only=True)
class JobFolder:
    """One job, as it was claimed. The folder stays the same when another worker that sees it goes on; what belongs to
    one claim lies in its ``attempt``: there ``spec.json`` holds all that is said here.
    """

    path: Path
    job: pb.Job
    adapter: str
    """The name under which versions are pushed, in the job's tenant."""
    base: Path
    """The base's folder on this machine."""
    form: ServingForm
    """In which the server holds the base."""
    target: str
    """The server's gRPC address; its token is in ``GRAFT_TOKEN``."""
    fence: int
    told_step: int = 0
    """Steps of which the server has heard before this claim."""
    checkpoint_step: int = 0
    """The newest checkpoint of which the server has a version."""
    ray: int | None = None
    """Ray Train workers; without it here, or in the processes that ``torchrun`` started."""
    ray_address: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the operator wants of trainings of this method, by the names of their settings."""

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def spec(self) -> pb.JobSpec:
        """What was asked."""
        return self.job.spec

    @property
    def method(self) -> str:
        return METHODS[self.spec.method]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """In OpenAI's words; whole numbers as such, what is unset or to be chosen is ``auto``."""
        return values_of(self.spec.hyperparameters)

    @property
    def grader(self) -> dict[str, Any]:
        """In OpenAI's words."""
        return values_of(self.spec.grader)

    @property
    def training_file(self) -> Path:
        return self.path / _TRAINING

    @property
    def validation_file(self) -> Path | None:
        """None where the job has none."""
        return self.path / _VALIDATION if self.spec.validation_file else None

    @property
    def held_out_file(self) -> Path | None:
        """The gate's; None where it has no file."""
        return self.path / _GATE if self.spec.gate.file else self.validation_file

    @property
    def start(self) -> Path | None:
        """The folder of the adapter that the training goes on from; None where it begins from the base."""
        return self.path / "start" if self.job.HasField("start") else None

    @property
    def work(self) -> Path:
        """Where the training has its checkpoints, metrics and what it makes."""
        return self.path / "work"

    @property
    def versions(self) -> Path:
        """Of each checkpoint that is told ``step-N/``, an adapter's folder."""
        return self.path / "versions"

    @property
    def attempt(self) -> Path:
        """Of this claim alone: what is told, and how it ended."""
        return self.path / f"attempt-{self.fence}"

    @property
    def hold(self) -> Path:
        """While it is there, the training waits between two steps."""
        return self.path / HOLD

    def read_base(self) -> Base:
        """Raises ``InvalidBase``."""
        return Base.from_folder(self.base)

    def write(self) -> None:
        """Raises OSError."""
        self.attempt.mkdir(parents=True, exist_ok=True)
        values = {name: value for name, value in vars(self).items() if name not in ("path", "job")}
        values |= {"job": MessageToDict(self.job, preserving_proto_field_name=True)}
        replace_text(self.attempt / FILE, json.dumps(values, indent=1, default=str))

    @classmethod
    def read(cls, attempt: Path) -> Self:
        """Raises ``ConfigurationError`` where no worker has written one there."""
        try:
            values = json.loads((attempt / FILE).read_text(encoding="utf-8"))
            job = ParseDict(values.pop("job"), pb.Job())
            base, form = Path(values.pop("base")), ServingForm(values.pop("form"))
            return cls(path=attempt.absolute().parent, job=job, base=base, form=form, **values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{attempt} is no job's: {error}. `graft worker` makes such folders.") from None
