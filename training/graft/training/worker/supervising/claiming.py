"""The next job of a server's queue: asked for until there is one, or until the worker is to end."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from graft.client import GraftClientError
from graft.client.errors import InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented
from graft.training.errors import ConfigurationError
from graft.training.runtime.disk import replace_text
from graft.training.worker.client import LEASE_LOST, WorkerClient
from graft.training.worker.lease import Lease, unmoved
from graft.training.worker.patience import LockedOut
from graft.v1 import job_pb2 as pb
from graft.v1.server_pb2 import GetInfoResponse

T = TypeVar("T")
_WAIT_SECONDS, _AGAIN_SECONDS, _SHORT_SECONDS, _LOOK_SECONDS = 20.0, 2.0, 10.0, 0.2


class Claiming:
    """By one worker, which says by ``mark`` which claim is its own, also when it was ended and started again."""

    def __init__(self, client: WorkerClient, *, name: str, mark: Path, stop: threading.Event) -> None:
        self._client, self._name, self._mark, self._stop = client, name, mark, stop
        self._is_away = False

    def info(self, is_over: Callable[[], bool] = lambda: False) -> GetInfoResponse | None:
        """What the server serves; None where it says nothing until it is over, or until the worker is to end.

        Raises ``ConfigurationError``.
        """
        while not is_over() and not self._stop.is_set():
            if (found := self._heard(lambda: self._client.info(timeout=_SHORT_SECONDS))) is not None:
                return found
        return None

    def claim(self) -> tuple[pb.ClaimJobResponse, Lease] | None:
        """The next job, or the one that this worker had when it was ended. None where there is none yet.

        Raises ``ConfigurationError``.
        """
        if not self._mark.exists():
            replace_text(self._mark, uuid.uuid4().hex)
        request_id, sent = self._mark.read_text(encoding="utf-8"), unmoved()
        try:
            claim = self._heard(lambda: self._unless_stopped(request_id))
        except _Lost:
            self.forget()
            return None
        if claim is None or not claim.HasField("job"):
            return None
        return claim, Lease(claim.lease.ToTimedelta().total_seconds(), sent=sent)

    def forget(self) -> None:
        """The claim has come to its end."""
        self._mark.unlink(missing_ok=True)

    def give_back(self, claim: pb.ClaimJobResponse) -> None:
        """So that others need not wait for its lease's end; a server that is away learns of it by that."""
        request = pb.CompleteJobRequest(job=claim.job.id, fence=claim.fence, release=pb.JobRelease())
        with contextlib.suppress(GraftClientError):
            self._client.complete(request, timeout=_SHORT_SECONDS)
        self.forget()

    def _unless_stopped(self, request_id: str) -> pb.ClaimJobResponse:
        """A question that waits for a job is broken off by a signal; what was claimed all the same is given back."""
        with self._client.again() as asking, ThreadPoolExecutor(1, "claim") as threads:
            future = threads.submit(asking.claim, self._name, request_id=request_id, wait_seconds=_WAIT_SECONDS)
            while not self._stop.is_set():
                if wait([future], _LOOK_SECONDS).done:
                    return future.result()
            asking.close()
            if not _is_answered(future):
                return pb.ClaimJobResponse()
        claim = self._client.claim(self._name, request_id=request_id, wait_seconds=0.0)
        if claim.HasField("job"):
            self.give_back(claim)
        return pb.ClaimJobResponse()

    def _heard(self, call: Callable[[], T]) -> T | None:
        """None where the server does not answer; that it does not is said once, and that it does again. Raises
        ``ConfigurationError``, and ``_Lost``.
        """
        try:
            found = call()
        except GraftClientError as error:
            if error.reason == LEASE_LOST:
                raise _Lost from error
            if isinstance(error, PermissionDenied | Unauthenticated):
                raise locked_out(self._client.target, error) from None
            if isinstance(error, Unimplemented | InvalidArgument):
                raise ConfigurationError(
                    f"{self._client.target} takes no workers' questions ({error}): give the gRPC address of a Graft "
                    "server by --server."
                ) from None
            if not self._is_away and not self._stop.is_set():
                print(f"{self._client.target} does not answer: {error}; it is asked again until it does", flush=True)
                self._is_away = True
            self._stop.wait(_AGAIN_SECONDS)
            return None
        if self._is_away:
            print(f"{self._client.target} answers", flush=True)
            self._is_away = False
        return found


class _Lost(Exception):
    """The claim of which the mark tells is over."""


def _is_answered(future: Future[pb.ClaimJobResponse]) -> bool:
    """Whether the server may have claimed something for it."""
    with contextlib.suppress(GraftClientError, ValueError):  # gRPC's, of a channel that is closed
        return future.result().HasField("job")
    return True


def locked_out(target: str, error: GraftClientError | LockedOut) -> ConfigurationError:
    return ConfigurationError(
        f"{target} does not let this worker work: {error}. Put the token of the tenant that its --worker-tenant names "
        "into GRAFT_TOKEN."
    )
