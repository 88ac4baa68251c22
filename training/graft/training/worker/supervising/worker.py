"""`graft worker`: claims a job, carries it out, claims the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.training.errors import ConfigurationError
from graft.training.worker.client import WorkerClient
from graft.training.worker.folder import METHODS, JobFolder
from graft.training.worker.lease import Lease
from graft.training.worker.patience import LockedOut
from graft.training.worker.supervising.attempt import Attempt, Command, Ending
from graft.training.worker.supervising.claiming import Claiming, locked_out
from graft.training.worker.supervising.keeper import Keeper
from graft.training.worker.supervising.leftovers import clear_ended
from graft.training.worker.supervising.yielding import Yielding
from graft.v1 import job_pb2 as pb
from graft.v1.common_pb2 import ServingForm as FormNumber
from graft.v1.server_pb2 import GetInfoResponse


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What a worker is told."""

    target: str
    folder: Path
    """Of all jobs: workers that see the same one go on from each other's checkpoints."""
    name: str
    token: str | None = None
    base: Path | None = None
    """Where the server's base lies here; None: it is looked for by its name."""
    ray: int | None = None
    ray_address: str | None = None
    metrics_url: str | None = None
    """The server's Prometheus metrics, where trainings give way to serving."""
    yield_above_seconds: float = 1.0
    """Mean time to a first token above which they do."""
    max_jobs: int | None = None
    """End after so many."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The operator's, by method."""


class Worker:
    """One job at a time."""

    def __init__(self, settings: WorkerSettings, *, find_base: Callable[[str], Path], command: Command) -> None:
        """``find_base`` gives the folder of a base by its name; it raises NotFound. ``command`` is the children's."""
        self._settings, self._find_base, self._command = settings, find_base, command
        self._stop = threading.Event()
        self._yielding = (
            None
            if settings.metrics_url is None
            else Yielding(settings.metrics_url, bound_seconds=settings.yield_above_seconds)
        )
        self._bases: dict[str, Base] = {}

    def run(self) -> int:
        """Until SIGTERM or SIGINT; how many jobs were carried out to their end. Raises ``ConfigurationError``."""
        num_done = 0
        own_name = _own_name(self._settings.folder, self._settings.name)
        try:
            client = WorkerClient(self._settings.target, token=self._settings.token)
        except ValueError as error:
            raise ConfigurationError(f"GRAFT_TOKEN cannot be sent: {error}.") from None
        with own_name as own, self._signals(), client, self._yielding or contextlib.nullcontext():
            claiming = Claiming(client, name=self._settings.name, mark=own / "claim", stop=self._stop)
            if (info := claiming.info()) is not None:  # before a job is claimed that cannot be carried out here
                self._base(info.base.name, info.base.digest)
                clear_ended(client, self._jobs)
            while not self._stop.is_set() and num_done != self._settings.max_jobs:
                claimed = claiming.claim()
                if claimed is None:
                    continue
                claim, lease = claimed
                ending = self._carry_out(client, claiming, claim, lease)
                claiming.forget()
                print(f"{claim.job.id}: {ending.value}", flush=True)
                if ending is Ending.LOST:  # it was cancelled, most often
                    clear_ended(client, self._jobs)
                num_done += ending in (Ending.SUCCEEDED, Ending.FAILED)
        return num_done

    def _carry_out(self, client: WorkerClient, claiming: Claiming, claim: pb.ClaimJobResponse, lease: Lease) -> Ending:
        """A job that cannot be begun here, or gone on with, is given back."""
        job = claim.job
        print(f"{job.id}: claimed", flush=True)
        try:
            with Keeper(client, job=job.id, fence=claim.fence, lease=lease) as keeper:
                if (info := claiming.info(lambda: keeper.is_lost)) is None:
                    claiming.give_back(claim)
                    return Ending.LOST if keeper.is_lost else Ending.RELEASED
                folder = self._folder_of(info, claim)
                folder.write()
                return Attempt(
                    client, folder, keeper, command=self._command, stop=self._stop, yielding=self._yielding
                ).run()
        except LockedOut as error:  # it goes on with the job when it is let in again
            raise locked_out(self._settings.target, error) from None
        except OSError as error:
            claiming.give_back(claim)
            raise ConfigurationError(
                f"{self._settings.folder} cannot be written, and {job.id} is given back: {error}. Free the worker's "
                "disk."
            ) from error
        except ConfigurationError:
            claiming.give_back(claim)
            raise

    @property
    def _jobs(self) -> Path:
        return self._settings.folder.absolute() / "jobs"

    def _folder_of(self, info: GetInfoResponse, claim: pb.ClaimJobResponse) -> JobFolder:
        job, settings = claim.job, self._settings
        base = self._base(info.base.name, info.base.digest)
        return JobFolder(
            path=self._jobs / job.id,
            job=job,
            adapter=job.adapter,
            base=base.path,
            form=ServingForm[FormNumber.Name(info.form).removeprefix("SERVING_FORM_")],
            target=settings.target,
            fence=claim.fence,
            told_step=job.progress.step,
            checkpoint_step=claim.checkpoint.step,
            ray=settings.ray,
            ray_address=settings.ray_address,
            settings=settings.settings.get(METHODS[job.spec.method], {}),
        )

    def _base(self, name: str, digest: str) -> Base:
        """The server's. Raises ``ConfigurationError`` where this machine has another, or none."""
        if digest not in self._bases:
            base = Base.from_folder(self._settings.base or self._find_base(name))
            if base.digest != digest:
                raise ConfigurationError(
                    f"{self._settings.target} serves {name} ({digest}), and {base.path} is {base.name} "
                    f"({base.digest}): give the folder of the server's base by --training-base."
                )
            self._bases[digest] = base
        return self._bases[digest]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGTERM or SIGINT has the job saved and given back; a second one ends the worker at once."""

        def hear(number: int, frame: FrameType | None) -> None:
            if self._stop.is_set():
                os._exit(128 + number)
            self._stop.set()
            print("ending: the job is saved and given back; a second signal ends at once", flush=True)

        before = {one: signal.signal(one, hear) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)


@contextlib.contextmanager
def _own_name(folder: Path, name: str) -> Iterator[Path]:
    """A folder of this worker's own. Raises ``ConfigurationError`` where another worker of the name works there."""
    own = folder.absolute() / "workers" / name
    own.mkdir(parents=True, exist_ok=True)
    handle = os.open(own, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another worker called {name} works in {folder}: give this one another --name."
            ) from None
        yield own
    finally:
        os.close(handle)
