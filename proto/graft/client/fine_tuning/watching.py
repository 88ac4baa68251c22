"""Following a job's events over breaks: what was heard, and whether and when to ask again. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Callable

from graft.client import errors
from graft.client.fine_tuning.job_operation import ENDED
from graft.v1 import job_pb2 as pb

# A stream that is cut so often is no break: it is opened anew, behind the last event.
STREAM_SECONDS = 3600.0
_RENEWED_SECONDS = STREAM_SECONDS - 1.0
BREAKS = (
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.Cancelled,
    errors.IncompleteStream,
    errors.ResourceExhausted,
)
"""After these one asks again."""
_FIRST_WAIT_SECONDS, _LAST_WAIT_SECONDS = 0.1, 5.0


OnSilence = Callable[[errors.GraftClientError | None], None]


class Watch:
    """What is known of a job's events."""

    def __init__(self, job: str, *, after: int, patience_seconds: float, on_silence: OnSilence | None = None) -> None:
        self._job = job
        self._last = after
        self._patience_seconds = patience_seconds
        self._on_silence = on_silence or (lambda error: None)
        self._wait_seconds = _FIRST_WAIT_SECONDS
        self._silent_since: float | None = None
        self._opened_at: float | None = None
        self.is_over = False

    def request(self, now_seconds: float) -> pb.WatchJobRequest:
        """Opens a stream of what comes behind the last event."""
        self._opened_at = now_seconds
        return pb.WatchJobRequest(job=self._job, after_number=self._last)

    def found(self, job: pb.Job) -> None:
        """The server told how the job is: where there is no event to miss, it has been heard from."""
        if job.num_events <= self._last:
            self.is_over = job.state in ENDED
            self._heard()

    def take(self, event: pb.JobEvent) -> pb.JobEvent | None:
        """The event; None where it came before. Raises `IncompleteStream` where one before it did not come."""
        if event.number <= self._last:
            return None
        if event.number > self._last + 1:
            raise errors.IncompleteStream(f"event {event.number} of {self._job} came after event {self._last}")
        self._last, self._wait_seconds = event.number, _FIRST_WAIT_SECONDS
        self._heard()
        self.is_over = event.state in ENDED
        return event

    def ended(self) -> None:
        """The stream has ended. Raises `IncompleteStream` where the job has not."""
        if not self.is_over:
            raise errors.IncompleteStream(f"the events of {self._job} broke off after event {self._last}")

    def _heard(self) -> None:
        if self._silent_since is not None:
            self._silent_since = None
            self._on_silence(None)

    def wait_after(self, error: errors.GraftClientError, now_seconds: float) -> float:
        """How many seconds to wait after a break; raises `error` when nothing was heard for too long."""
        opened_at, self._opened_at = self._opened_at, None
        had_its_time = opened_at is not None and now_seconds - opened_at >= _RENEWED_SECONDS
        if had_its_time and isinstance(error, errors.DeadlineExceeded):
            return 0.0
        if self._silent_since is None:
            self._silent_since = now_seconds
        if now_seconds - self._silent_since >= self._patience_seconds:
            raise error
        self._on_silence(error)
        wait = max(self._wait_seconds, error.retry_after_seconds or 0.0)
        self._wait_seconds = min(2 * self._wait_seconds, _LAST_WAIT_SECONDS)
        return wait
