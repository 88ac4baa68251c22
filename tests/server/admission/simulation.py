"""Requests for many adapters over few slots, as a discrete-event simulation: the real policies, an engine on paper.

Times are seconds. The engine batches continuously: a step takes `step_seconds` and more for each sequence, prompts are
read in the step in which a sequence begins, and an adapter is prepared beside the engine, then copied into it between
two steps. All randomness comes from one seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from graft.server.admission.policy import QUANTUM, Admission, Refuse
from graft.server.residency.policy import Action, Load, Residency


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Roughly what two CPU cores do."""

    num_slots: int = 16
    max_running: int = 32
    max_queued: int = 256
    step_seconds: float = 0.030
    sequence_seconds: float = 0.0013
    prompt_token_seconds: float = 0.001
    load_seconds: tuple[float, float] = (0.005, 0.020)
    copy_seconds: float = 0.005


@dataclass(kw_only=True)
class Request:
    """One request and what became of it."""

    arrived_at: float
    adapter: str
    num_prompt: int
    num_generated: int
    started_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    num_done: int = 0
    refused: bool = False


@dataclass(kw_only=True)
class _Slots:
    """`Residency` as `SlotChoice`, its actions kept for the engine."""

    residency: Residency
    act: Callable[[tuple[Action, ...]], None]

    def want(self, digests: Sequence[str], yields: Callable[[str, str], bool]) -> None:
        self.act(self.residency.want(digests, yields))

    def usable(self, digest: str) -> bool:
        return self.residency.usable(digest)

    def take(self, digest: str) -> None:
        self.residency.take(digest)


@dataclass(kw_only=True)
class Simulation:
    """Runs requests to their end, or to `until`."""

    machine: Machine
    seed: int = 0
    quantum: float = QUANTUM
    now: float = 0.0
    num_loads: int = 0
    num_in_steps: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._admission = Admission(
            max_running=self.machine.max_running, max_queued=self.machine.max_queued, quantum=self.quantum
        )
        self._slots = _Slots(residency=Residency(num_slots=self.machine.num_slots), act=self._act)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._requests: dict[str, Request] = {}
        self._batch: list[str] = []
        self._joining: list[str] = []
        self._between_steps: list[Action] = []
        self._stepping = False
        self.on_end: Callable[[Request], None] = lambda request: None

    def run(self, requests: Iterable[Request], *, until: float = float("inf")) -> None:
        for request in requests:
            self.arrive(request)
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()

    def arrive(self, request: Request) -> None:
        """A request comes at its own time."""
        self._at(request.arrived_at, lambda: self._arrive(request))

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), event))

    def _arrive(self, request: Request) -> None:
        request_id = f"{next(self._numbers)}"
        decision = self._admission.offer(
            request_id, tenant="one", adapter=request.adapter, digest=request.adapter, deadline=None
        )
        if isinstance(decision, Refuse):
            self._refuse(request)
            return
        if decision.displaced is not None:
            self._refuse(self._requests.pop(decision.displaced))
        self._requests[request_id] = request
        self._advance()
        self._go_on()

    def _refuse(self, request: Request) -> None:
        request.refused = True
        self.on_end(request)

    def _advance(self) -> None:
        for request_id in self._admission.advance(now=self.now, slots=self._slots).started:
            self._requests[request_id].started_at = self.now
            self._joining.append(request_id)

    def _act(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Load):
                self.num_loads += 1
                seconds = self._random.uniform(*self.machine.load_seconds)
                self._at(self.now + seconds, lambda action=action: self._prepared(action))  # type: ignore[misc]
            else:
                self._between_steps.append(action)

    def _prepared(self, action: Action) -> None:
        self._between_steps.append(action)
        self._go_on()

    def _go_on(self) -> None:
        """Between two steps: copy adapters in and out, let requests in, and begin the next step."""
        if self._stepping:
            return
        while self._between_steps:
            action = self._between_steps.pop(0)
            if isinstance(action, Load):
                self.now += self.machine.copy_seconds
                self._act(self._slots.residency.loaded(action.digest))
            else:
                self._act(self._slots.residency.unloaded(action.digest))
            self._advance()
        prompts = sum(self._requests[request_id].num_prompt for request_id in self._joining)
        self._batch += self._joining
        for request_id in self._joining:
            self._admission.charge(request_id, prompt_tokens=self._requests[request_id].num_prompt)
        self._joining.clear()
        if self._batch:
            machine = self.machine
            seconds = machine.step_seconds + machine.sequence_seconds * len(self._batch)
            seconds += machine.prompt_token_seconds * prompts
            self._stepping = True
            self.num_in_steps.append(len(self._batch))
            self._at(self.now + seconds, self._step_ends)

    def _step_ends(self) -> None:
        self._stepping = False
        ended = []
        for request_id in self._batch:
            request = self._requests[request_id]
            request.num_done += 1
            self._admission.charge(request_id, generated_tokens=1)
            if request.first_token_at is None:
                request.first_token_at = self.now
            if request.num_done == request.num_generated:
                ended.append(request_id)
        for request_id in ended:
            self._end(request_id)
        if ended:
            self._advance()
        self._go_on()

    def _end(self, request_id: str) -> None:
        request = self._requests.pop(request_id)
        self._batch.remove(request_id)
        request.ended_at = self.now
        self._admission.leave(request_id, now=self.now)
        self._act(self._slots.residency.release(request.adapter))
        self.on_end(request)


def arrivals(num_requests: int, *, per_second: float, num_adapters: int, zipf: float, seed: int) -> list[Request]:
    """Poisson arrivals; adapter k is asked for with weight k^-zipf."""
    draw = random.Random(seed)
    weights = [rank**-zipf for rank in range(1, num_adapters + 1)]
    requests, now = [], 0.0
    for name in draw.choices(range(num_adapters), weights, k=num_requests):
        now += draw.expovariate(per_second)
        requests.append(_request(f"a{name}", now, draw))
    return requests


def callers(names: Iterable[int], *, each: int, seed: int = 0) -> list[Request]:
    """The first requests of so many callers of each adapter, all at once."""
    draw = random.Random(seed)
    return [_request(f"a{name}", 0.0, draw) for _ in range(each) for name in names]


def _request(adapter: str, arrived_at: float, draw: random.Random) -> Request:
    return Request(
        arrived_at=arrived_at, adapter=adapter, num_prompt=draw.randint(10, 30), num_generated=draw.randint(20, 60)
    )


def closed_loop(simulation: Simulation, requests: Iterable[Request], *, num_callers: int) -> None:
    """Callers who share the requests; each sends the next as soon as the last has ended."""
    rest = iter(requests)

    def ask(_: Request | None = None) -> None:
        if (request := next(rest, None)) is not None:
            request.arrived_at = simulation.now
            simulation.arrive(request)

    simulation.on_end = ask
    for _ in range(num_callers):
        ask()
    simulation.run(())


def asking_again(simulation: Simulation, first: Sequence[Request], *, seconds: float, seed: int = 0) -> list[Request]:
    """Callers who ask for the same adapter again, with another length, for so long. Returns all requests."""
    draw, asked = random.Random(seed), list(first)

    def again(ended: Request) -> None:
        asked.append(_request(ended.adapter, simulation.now, draw))
        simulation.arrive(asked[-1])

    simulation.on_end = again
    simulation.run(first, until=seconds)
    return asked


def onto(requests: Sequence[Request], num_adapters: int) -> list[Request]:
    """The same arrivals, for few adapters."""
    return [
        Request(
            arrived_at=each.arrived_at,
            adapter=f"a{int(each.adapter[1:]) % num_adapters}",
            num_prompt=each.num_prompt,
            num_generated=each.num_generated,
        )
        for each in requests
    ]
