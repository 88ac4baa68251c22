"""One claim of a job, from its files to its end."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

from graft.client import GraftClientError
from graft.training.errors import ConfigurationError, DataError, TrainingError
from graft.training.gate.gate import Candidate, check_gate, release
from graft.training.gate.told import news_of, not_carried_out
from graft.training.worker.child import AWAY
from graft.training.worker.client import TRANSFER_SECONDS, WorkerClient
from graft.training.worker.folder import JobFolder
from graft.training.worker.lease import unmoved
from graft.training.worker.patience import GivenUp, Patience, Refused
from graft.training.worker.plan import read_plan
from graft.training.worker.supervising.keeper import Keeper
from graft.training.worker.supervising.leftovers import clear, clear_failed
from graft.training.worker.supervising.process import Child
from graft.training.worker.supervising.reporting import LeaseGone, Reporting
from graft.training.worker.supervising.saying import Saying, StopAsked
from graft.training.worker.supervising.yielding import Yielding
from graft.training.worker.trained import FAILURE, Failed, Trained
from graft.v1 import job_pb2 as pb
from graft.v1 import release_pb2 as pb_release

_log = logging.getLogger(__name__)
T = TypeVar("T")
Command = Callable[[Path], Sequence[str]]
_LOOK_SECONDS, _AGAIN_SECONDS = 0.1, 1.0
MAX_CRASHES = 3
"""So often one behind the other a training may end without a word, and no step between."""
MAX_AWAY = 20
"""So often where the server did not answer it: each time it has been asked again for minutes."""
STABLE = "stable"


class Ending(Enum):
    """How a claim ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    RELEASED = "given back"
    LOST = "lost"


class Attempt:
    """What the worker does for one job while it has it."""

    def __init__(
        self,
        client: WorkerClient,
        folder: JobFolder,
        keeper: Keeper,
        *,
        command: Command,
        stop: threading.Event,
        yielding: Yielding | None = None,
    ) -> None:
        """``command`` gives the child's command line, by the attempt's folder. ``stop`` is set where the worker is to
        end: the job is saved and given back. ``yielding`` says when the training is to wait.
        """
        self._client, self._folder, self._keeper, self._stop = client, folder, keeper, stop
        self._yielding = yielding
        self._held_at: float | None = None
        self._acting = client.acting(folder.id, folder.fence)
        self._command, self._num_crashes, self._crash_step = command, 0, -1
        self._reporting = Reporting(
            folder,
            keeper,
            push=lambda path: self._pushed(path),
            report=lambda report: client.report(report, timeout=keeper.lease.seconds),
        )
        self._saying = Saying(keeper, stop=stop, warn=self._warn)

    def run(self) -> Ending:
        """Raises OSError where the disk refuses what the worker itself writes, and ``LockedOut``."""
        child: Child | None = None
        try:
            self._fetch()
            self._check_gate()
            while not self._is_stopping:
                if self._is_trained:
                    return self._finish()
                self._wait_for_the_lease()
                child = self._start()
                self._accompany(child)
                child.close()
                self._keeper.child = None
                if (failure := self._failure(child)) is not None:
                    return self._fail(failure)
            return self._finish() if self._is_trained else self._release()
        except LeaseGone:
            return Ending.LOST
        except StopAsked:
            return self._release(drains=False)
        except GivenUp as error:
            _log.warning("%s is given back: %s", self._folder.id, error)
            return self._release(drains=False)
        except Refused as error:
            return self._fail(Failed(code=error.code, message=str(error)))
        except TrainingError as error:
            return self._fail(Failed(code="worker_failed", message=str(error)))
        except GraftClientError as error:  # of a report, which no repeating mends
            return self._fail(Failed(code="report_refused", message=str(error)), drains=False)
        finally:
            if child is not None:
                child.close()
            self._acting.close()

    @property
    def _is_stopping(self) -> bool:
        return self._stop.is_set() or self._keeper.state == pb.JOB_STATE_PAUSING

    @property
    def _is_trained(self) -> bool:
        attempt = self._folder.attempt
        return Trained.read(attempt) is not None or read_plan(attempt) is not None

    def _fetch(self) -> None:
        """The job's files."""
        folder, spec = self._folder, self._folder.spec
        self._said(lambda: self._acting.download(spec.training_file, folder.training_file), "download_failed")
        if (path := folder.validation_file) is not None:
            self._said(lambda: self._acting.download(spec.validation_file, path), "download_failed")
        if spec.gate.file and (held_out := folder.held_out_file) is not None:
            self._said(lambda: self._acting.download(spec.gate.file, held_out), "download_failed")
        if (start := folder.start) is not None:
            made = folder.job.start
            self._said(
                lambda: self._acting.download_version(made.adapter, made.version_digest, start), "download_failed"
            )

    def _check_gate(self) -> None:
        """Hours before it is asked. Raises ``ConfigurationError``, ``DataError`` where no version could pass it."""
        folder = self._folder
        if folder.spec.HasField("gate") and not self._is_trained:
            check_gate(folder.spec.gate, training=folder.training_file, held_out=folder.held_out_file)

    def _start(self) -> Child:
        self._folder.hold.unlink(missing_ok=True)
        self._held_at = None
        (self._folder.attempt / FAILURE).unlink(missing_ok=True)
        attempt = self._folder.attempt
        child = Child(self._command(attempt), attempt=attempt, lease_seconds=self._keeper.lease.seconds)
        self._keeper.child = child
        return child

    def _accompany(self, child: Child) -> None:
        """Until it has ended."""
        while child.status() is None:
            if self._keeper.is_lost:
                child.kill()
                raise LeaseGone
            if self._is_stopping:
                child.stop()
            if child.is_asked:  # by the lease's end, too
                self._folder.hold.unlink(missing_ok=True)
            else:
                self._give_way()
            is_sent = self._reporting.go_on()
            time.sleep(_LOOK_SECONDS if is_sent else min(_AGAIN_SECONDS, self._keeper.lease.beat_seconds))
        self._reporting.go_on()

    def _give_way(self) -> None:
        """The training waits while the server's users wait too long."""
        yielding, hold = self._yielding, self._folder.hold
        if yielding is None or yielding.is_asked is (self._held_at is not None):
            return
        if yielding.is_asked:
            self._held_at = unmoved()
            hold.touch()
            tokens = yielding.tokens
            self._reporting.event(
                f"Training waits for serving: users waited {tokens.seconds:.2f} s for a first token, and the bound is "
                f"{tokens.bound_seconds:g} s"
            )
        elif self._held_at is not None:
            hold.unlink(missing_ok=True)
            self._reporting.event(f"Training goes on; it waited {unmoved() - self._held_at:.0f} s for serving")
            self._held_at = None

    def _failure(self, child: Child) -> Failed | None:
        """None where the job can go on, here or elsewhere."""
        if (said := Failed.read(self._folder.attempt)) is not None:
            return said
        if self._is_trained or child.is_asked:
            return None
        self._num_crashes = self._num_crashes + 1 if self._reporting.step == self._crash_step else 1
        self._crash_step = self._reporting.step
        is_away = child.status() == AWAY
        told = f"The training ended by itself ({_ended(child.status())}) after step {self._reporting.step}"
        most = MAX_AWAY if is_away else MAX_CRASHES
        if self._num_crashes >= most:
            return Failed(code="training_lost", message=f"{told}, {most} times without a step between")
        self._reporting.event(f"{told}; it goes on from the newest checkpoint", level="warn")
        return None

    def _wait_for_the_lease(self) -> None:
        """Where no server answered for long: nothing runs until one says that the job is still this worker's."""
        while self._keeper.lease.is_ending and not self._is_stopping:
            self._saying.check()
            self._stop.wait(self._keeper.lease.beat_seconds)

    def _finish(self) -> Ending:
        """Everything that was made is on the server before it is said that the job has succeeded."""
        folder, trained = self._folder, Trained.read(self._folder.attempt)
        if (plan := read_plan(folder.attempt)) is not None:
            self._drain()
            self._complete(plan=plan)
            clear(folder.path)
            return Ending.SUCCEEDED
        assert trained is not None
        self._drain()  # checkpoints before the last one are told before it
        digest = self._said(lambda: self._pushed(trained.adapter), "version_refused")
        files = [self._said(lambda path=path: self._upload(path), "results_refused") for path in trained.files]  # type: ignore[misc]
        self._reporting.version(trained.num_steps, digest, {"step": float(trained.num_steps), **trained.metrics})
        self._drain()
        if folder.spec.HasField("gate"):
            self._pass_the_gate(digest)
        else:
            self._said(lambda: self._acting.set_alias(folder.adapter, STABLE, digest, timeout=600.0), "alias_refused")
        result = pb.JobResult(
            adapter=folder.adapter, version_digest=digest, trained_tokens=trained.trained_tokens, result_files=files
        )
        self._complete(result=result)
        clear(folder.path)
        return Ending.SUCCEEDED

    def _pass_the_gate(self, digest: str) -> None:
        """Have the server decide by held-out data whether the version answers for its adapter, and tell why.

        A gate that cannot be carried out moves no alias; the job has made its version all the same.
        """
        folder = self._folder
        candidate = Candidate(adapter=folder.adapter, digest=digest, job=folder.id)

        def decided() -> pb_release.Rollout:
            return release(
                self._acting,
                candidate,
                folder.spec.gate,
                training=folder.training_file,
                held_out=folder.held_out_file,
            )

        try:
            news = news_of(self._said(decided, "gate_failed"))
        except (Refused, DataError, ConfigurationError) as error:
            news = not_carried_out(candidate, str(error))
        self._reporting.event(news.message, level=news.level, data=news.data)
        self._drain()

    def _fail(self, failure: Failed, *, drains: bool = True) -> Ending:
        _log.warning("%s fails: %s", self._folder.id, failure.message)
        try:
            if drains:
                self._drain()
            self._complete(failure=pb.JobFailure(code=failure.code, message=failure.message[:10_000]))
        except (LeaseGone, Refused, GivenUp, GraftClientError) as error:
            return self._let_go(error)
        except StopAsked:
            return self._release(drains=False)
        clear_failed(self._folder.path)
        return Ending.FAILED

    def _release(self, *, drains: bool = True) -> Ending:
        try:
            if drains:
                with contextlib.suppress(StopAsked, GivenUp):
                    self._drain()
            self._complete(release=pb.JobRelease())
        except (LeaseGone, Refused, GivenUp, GraftClientError) as error:
            return self._let_go(error)
        return Ending.RELEASED

    def _let_go(self, error: Exception) -> Ending:
        """The server could not be told how it ended: the job's lease ends by itself."""
        if not isinstance(error, LeaseGone):
            _log.warning("%s is let go: %s", self._folder.id, error)
        return Ending.LOST

    def _drain(self) -> None:
        patience, num_answered = Patience(), 0
        while not self._reporting.go_on():
            if self._reporting.num_answered > num_answered:
                patience, num_answered = Patience(), self._reporting.num_answered
            if (problem := self._reporting.problem) is not None:
                self._saying.wait(patience, problem)

    def _complete(self, **outcome: pb.JobResult | pb.JobPlan | pb.JobFailure | pb.JobRelease) -> None:
        request = pb.CompleteJobRequest(job=self._folder.id, fence=self._folder.fence, **outcome)  # type: ignore[arg-type]
        # Whoever is to end says this word all the same.
        self._saying.said(lambda: self._client.complete(request, timeout=60.0), "not_completed", heeds_stop=False)

    def _pushed(self, path: Path) -> str:
        pushed = self._acting.push_adapter(path, name=self._folder.adapter, timeout=TRANSFER_SECONDS)
        digest: str = pushed.version.digest
        return digest

    def _upload(self, path: Path) -> str:
        return self._acting.upload(path, request_id=f"{self._folder.id}-{self._folder.fence}-{path.name}")

    def _said(self, call: Callable[[], T], code: str) -> T:
        return self._saying.said(call, code)

    def _warn(self, message: str) -> None:
        self._reporting.event(message, level="warn")
        self._reporting.go_on()


def _ended(status: int | None) -> str:
    if status == AWAY:
        return "the server did not answer it"
    return f"signal {-status}" if status is not None and status < 0 else f"exit status {status}"
