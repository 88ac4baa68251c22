"""Who may run now, who waits and who is refused. Pure: time is told to it, nothing is awaited."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from graft.server.admission.fairness import Client, Fairness, service_of
from graft.server.admission.slot_choice import AllUsable, SlotChoice

# How much one finished request moves the estimates of a request's length.
_SMOOTHING = 0.1
# What a request costs at least, even one that ended before it was served.
_MIN_SERVICE = 1.0
_MIN_RETRY_SECONDS = 0.1
_MAX_RETRY_SECONDS = 60.0
# A version in a slot lets another have it once it was served so much more, in weighted tokens (see DECISIONS).
QUANTUM = 512.0


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Waits for its turn, which may come with the next `advance`.

    `displaced` lost its waiting place to this one, and is refused now.
    """

    displaced: str | None = None


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """No place is left. A try after `retry_after_seconds` has a fair chance."""

    retry_after_seconds: float


Decision = Wait | Refuse


@dataclass(frozen=True, kw_only=True)
class Advance:
    """What time and freed places changed: requests that run from now on, and requests whose deadline has passed."""

    started: tuple[str, ...]
    expired: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    request_id: str
    client: Client
    digest: str | None
    deadline: float | None

    def expired(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


@dataclass(kw_only=True)
class _Running:
    client: Client
    digest: str | None
    started_at: float
    # Charged at the start for what is expected, so that one client does not take all free places at once.
    prepaid: float
    service: float = 0.0


class Admission:
    """Bounded running and waiting places. The least served client is next, each client's requests keep their order.

    A request is in one place only: running, waiting or gone. One whose version is in no slot waits without a running
    place. All times are seconds of one monotonic clock.
    """

    def __init__(
        self, *, max_running: int, max_queued: int, fairness: Fairness | None = None, quantum: float = QUANTUM
    ) -> None:
        if max_running < 1 or max_queued < 0:
            raise ValueError(f"max_running must be ≥ 1 and max_queued ≥ 0, not {max_running} and {max_queued}")
        self._max_running = max_running
        self._max_queued = max_queued
        self._fairness = Fairness() if fairness is None else fairness
        self._quantum = quantum
        self._running: dict[str, _Running] = {}
        self._queues: dict[Client, deque[_Waiting]] = {}
        self._num_queued = 0
        self._mean_seconds = 1.0
        self._mean_service = 0.0

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_queued(self) -> int:
        return self._num_queued

    @property
    def retry_after_seconds(self) -> float:
        """When one who is refused now has a fair chance."""
        seconds = self._mean_seconds * (self._num_queued + 1) / self._max_running
        return min(max(seconds, _MIN_RETRY_SECONDS), _MAX_RETRY_SECONDS)

    def offer(
        self,
        request_id: str,
        *,
        tenant: str,
        deadline: float | None,
        adapter: str = "",
        digest: str | None = None,
    ) -> Decision:
        """Decide on a new request for the version `digest`, or for the base. Call `advance` before, so that expired
        requests hold no place, and after: it may start at once.

        Free running places are waiting places too, for those who wait for a slot. Where none is left, the newest
        request of whoever has most waiting gives way, so that a flood fills no place that others need.
        """
        client, displaced = Client(tenant=tenant, adapter=adapter), None
        if self.num_running + self._num_queued >= self._max_running + self._max_queued:
            displaced = self._displace(client)
            if displaced is None:
                return Refuse(retry_after_seconds=self.retry_after_seconds)
        waiting = _Waiting(request_id=request_id, client=client, digest=digest, deadline=deadline)
        self._queues.setdefault(client, deque()).append(waiting)
        self._fairness.waits(client)
        self._num_queued += 1
        return Wait(displaced=displaced)

    def charge(self, request_id: str, *, prompt_tokens: int = 0, generated_tokens: int = 0) -> None:
        """A running request was served so much; unknown ids are ignored."""
        running = self._running.get(request_id)
        if running is None:
            return
        before = max(running.service, running.prepaid)
        running.service += service_of(prompt_tokens=prompt_tokens, generated_tokens=generated_tokens)
        self._fairness.charge(running.client, max(running.service, running.prepaid) - before)

    def leave(self, request_id: str, *, now: float) -> bool:
        """A request ended or gave up; unknown ids are ignored. Whether it ran."""
        running = self._running.pop(request_id, None)
        if running is None:
            self._remove(lambda waiting: waiting.request_id == request_id)
            return False
        self._mean_seconds += _SMOOTHING * (max(0.0, now - running.started_at) - self._mean_seconds)
        self._mean_service += _SMOOTHING * (running.service - self._mean_service)
        self._fairness.charge(running.client, min(0.0, max(running.service, _MIN_SERVICE) - running.prepaid))
        self._fairness.ends(running.client)
        return True

    def drop(self, digest: str) -> tuple[str, ...]:
        """Forget all who wait for a version that cannot be had; returns their ids."""
        return self._remove(lambda waiting: waiting.digest == digest)

    def advance(self, *, now: float, slots: SlotChoice | None = None) -> Advance:
        """Drop what has expired, then fill the running places. A request past its deadline never starts."""
        slots = slots or AllUsable()
        expired = self._remove(lambda waiting: waiting.expired(now))
        self._announce(slots)
        started: list[str] = []
        while self.num_running < self._max_running and (client := self._next(slots)) is not None:
            started.append(self._start(client, slots, now))
        if started:
            self._announce(slots)
        return Advance(started=tuple(started), expired=expired)

    def _displace(self, newcomer: Client) -> str | None:
        """Take the newest request of the client that has most waiting; None where that would only turn the tables."""
        num_of_tenant = Counter[str]()
        for client, queue in self._queues.items():
            num_of_tenant[client.tenant] += len(queue)
        most = max(self._queues, key=lambda each: (num_of_tenant[each.tenant], len(self._queues[each])), default=None)
        if most is None:
            return None
        if most.tenant != newcomer.tenant:
            surplus = num_of_tenant[most.tenant] - num_of_tenant[newcomer.tenant]
        else:
            surplus = len(self._queues[most]) - len(self._queues.get(newcomer, ()))
        if surplus < 2:
            return None
        newest = self._queues[most][-1].request_id
        self._remove(lambda waiting: waiting.request_id == newest)
        return newest

    def _next(self, slots: SlotChoice) -> Client | None:
        heads = (queue[0] for queue in self._queues.values())
        ready = (head.client for head in heads if head.digest is None or slots.usable(head.digest))
        return min(ready, key=self._fairness.order, default=None)

    def _start(self, client: Client, slots: SlotChoice, now: float) -> str:
        waiting = self._queues[client].popleft()
        if not self._queues[client]:
            del self._queues[client]
        self._num_queued -= 1
        if waiting.digest is not None:
            slots.take(waiting.digest)
        prepaid = max(self._mean_service, _MIN_SERVICE)
        self._running[waiting.request_id] = _Running(
            client=client, digest=waiting.digest, started_at=now, prepaid=prepaid
        )
        self._fairness.starts(client)
        self._fairness.charge(client, prepaid)
        return waiting.request_id

    def _announce(self, slots: SlotChoice) -> None:
        """Tell the slots which versions the first of each client wait for, the least served client's first."""
        wanting: dict[str, Client] = {}
        for client in sorted(self._queues, key=self._fairness.order):
            digest = self._queues[client][0].digest
            if digest is not None:
                wanting.setdefault(digest, client)

        users = cache(self._users)

        def yields(held: str, wanted: str) -> bool:
            return all(self._fairness.ahead(user, wanting[wanted]) > self._quantum for user in users().get(held, ()))

        slots.want(tuple(wanting), yields)

    def _users(self) -> dict[str, set[Client]]:
        users: dict[str, set[Client]] = {}
        uses = [(running.digest, running.client) for running in self._running.values()]
        for digest, client in (*uses, *((queue[0].digest, client) for client, queue in self._queues.items())):
            if digest is not None:
                users.setdefault(digest, set()).add(client)
        return users

    def _remove(self, unwanted: Callable[[_Waiting], bool]) -> tuple[str, ...]:
        removed = [waiting for queue in self._queues.values() for waiting in queue if unwanted(waiting)]
        for waiting in removed:
            queue = self._queues[waiting.client]
            queue.remove(waiting)
            if not queue:
                del self._queues[waiting.client]
            self._fairness.gives_up(waiting.client)
        self._num_queued -= len(removed)
        return tuple(waiting.request_id for waiting in removed)
