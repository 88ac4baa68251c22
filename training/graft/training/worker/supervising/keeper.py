"""That a job is the worker's: it says that it is there, and ends the training in time where no answer comes."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from graft.client import GraftClientError
from graft.training.worker.client import LEASE_LOST, WorkerClient
from graft.training.worker.lease import Lease, unmoved
from graft.training.worker.patience import is_locked_out
from graft.training.worker.supervising.process import Child
from graft.v1 import job_pb2 as pb

_LOOKS = 30
"""In a lease: whether it is over."""


class Keeper:
    """Two threads as long as a `with` block lasts: whatever the worker waits for, the lease is kept, and kept to."""

    def __init__(self, client: WorkerClient, *, job: str, fence: int, lease: Lease) -> None:
        self._client, self._job, self._fence, self.lease = client, job, fence, lease
        self.state: pb.JobState.ValueType = pb.JOB_STATE_RUNNING
        self.is_lost = False
        """The server says that the job is not this worker's any more."""
        self.refusal: GraftClientError | None = None
        """Why the server does not know this worker any more."""
        self.child: Child | None = None
        """What is ended with the lease."""
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=one, name=name, daemon=True)
            for one, name in ((self._beat, "heartbeats"), (self._watch, "lease"))
        ]

    def __enter__(self) -> Self:
        for one in self._threads:
            one.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for one in self._threads:
            one.join()

    def heard(self, state: pb.JobState.ValueType, sent: float) -> None:
        """A word that was sent then was answered."""
        self.lease.answered(sent)
        self.state, self.refusal = state, None
        if (child := self.child) is not None:
            child.beat()

    def failed(self, error: GraftClientError) -> None:
        """A word was refused, or came to nobody."""
        if error.reason == LEASE_LOST:
            self.is_lost = True
        elif is_locked_out(error):
            self.refusal = error

    def _beat(self) -> None:
        """The first at once: the claim may have waited for a job for long, and the lease counts from its question."""
        lease = self.lease
        while not self.is_lost and not self._ended.is_set():
            sent = unmoved()
            try:
                self.heard(self._client.heartbeat(self._job, self._fence, timeout=lease.seconds / 2), sent)
            except GraftClientError as error:
                self.failed(error)
            self._ended.wait(lease.beat_seconds)

    def _watch(self) -> None:
        while not self._ended.wait(self.lease.seconds / _LOOKS):
            child = self.child
            if child is None:
                continue
            if self.is_lost or self.lease.is_over:
                child.kill()
            elif self.lease.is_ending:
                child.stop()
