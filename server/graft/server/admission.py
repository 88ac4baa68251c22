"""Who may run now, who waits and who is refused. Pure: time is told to it, nothing is awaited."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

# How much one finished request moves the estimate of a request's length.
_SMOOTHING = 0.1
_MIN_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """Runs at once."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Waits; `num_ahead` requests wait before it in all."""

    num_ahead: int


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """No place is left. A try after `retry_after_seconds` has a fair chance."""

    retry_after_seconds: float


Decision = Start | Wait | Refuse


@dataclass(frozen=True, kw_only=True)
class Advance:
    """What time and freed places changed: requests that run from now on, and requests whose deadline has passed."""

    started: tuple[str, ...]
    expired: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    request_id: str
    deadline: float | None

    def expired(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


class Admission:
    """Bounded running and waiting places; tenants take turns, each tenant's own requests keep their order.

    A request is in one place only: running, waiting or gone. All times are seconds of one monotonic clock.
    """

    def __init__(self, *, max_running: int, max_queued: int) -> None:
        if max_running < 1 or max_queued < 0:
            raise ValueError(f"max_running must be ≥ 1 and max_queued ≥ 0, not {max_running} and {max_queued}")
        self._max_running = max_running
        self._max_queued = max_queued
        self._started_at: dict[str, float] = {}
        # The first tenant is the next to be served.
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._mean_seconds = 1.0

    @property
    def num_running(self) -> int:
        return len(self._started_at)

    @property
    def num_queued(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    def offer(self, request_id: str, *, tenant: str, deadline: float | None, now: float) -> Decision:
        """Decide on a new request. Call `advance` first, so that expired requests hold no place."""
        num_ahead = self.num_queued
        if num_ahead == 0 and self.num_running < self._max_running:
            self._started_at[request_id] = now
            return Start()
        if num_ahead >= self._max_queued:
            return Refuse(retry_after_seconds=self._retry_after_seconds())
        waiting = _Waiting(request_id=request_id, deadline=deadline)
        self._queues.setdefault(tenant, deque()).append(waiting)
        return Wait(num_ahead=num_ahead)

    def leave(self, request_id: str, *, now: float) -> None:
        """A request ended or gave up, whether it ran or waited; unknown ids are ignored."""
        started_at = self._started_at.pop(request_id, None)
        if started_at is not None:
            self._mean_seconds += _SMOOTHING * (max(0.0, now - started_at) - self._mean_seconds)
            return
        self._keep(lambda waiting: waiting.request_id != request_id)

    def advance(self, *, now: float) -> Advance:
        """Drop what has expired, then fill the running places. A request past its deadline never starts."""
        expired = tuple(w.request_id for queue in self._queues.values() for w in queue if w.expired(now))
        if expired:
            self._keep(lambda waiting: not waiting.expired(now))
        started: list[str] = []
        while self._queues and self.num_running < self._max_running:
            request_id = self._next()
            self._started_at[request_id] = now
            started.append(request_id)
        return Advance(started=tuple(started), expired=expired)

    def _next(self) -> str:
        tenant, queue = self._queues.popitem(last=False)
        waiting = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        return waiting.request_id

    def _keep(self, wanted: Callable[[_Waiting], bool]) -> None:
        kept = ((tenant, deque(filter(wanted, queue))) for tenant, queue in self._queues.items())
        self._queues = OrderedDict((tenant, queue) for tenant, queue in kept if queue)

    def _retry_after_seconds(self) -> float:
        seconds = self._mean_seconds * (self.num_queued + 1) / self._max_running
        return min(max(seconds, _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)
