"""The one way to the engine: resolve a name, admit the request with its adapter; let go of all on the way out."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from graft.adapters.adapter import DEFAULT_TENANT
from graft.adapters.base import Base
from graft.adapters.form import ServingForm
from graft.adapters.snapshot import BARE_BASE, Resolved
from graft.server.engine.engine import ContinuationScore, Delta, Engine, EngineAdapter, EngineError, Sampling
from graft.server.errors import Draining, NotReady
from graft.server.gate import Gate
from graft.server.metrics import Metrics, StreamMeter
from graft.server.parity.receipt import Receipt
from graft.server.patience import all_or_none, each_in_time, in_time
from graft.server.readiness import Readiness
from graft.server.registry import Registry
from graft.server.slots import Slots


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """Who answers a request; the adapter's facts are None where the base itself does."""

    adapter: str | None
    version_digest: str | None
    version_number: int | None
    base: str
    base_digest: str
    form: ServingForm
    other_form: bool
    parity: Receipt | None = None


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """An admitted request. `model` is the name as asked; times are event loop seconds.

    `request_id` is unique in this server's life: the engine knows the request by it.
    """

    model: str
    resolved: Resolved
    engine_adapter: EngineAdapter | None
    request_id: str
    answerer: Answerer
    entered_at: float
    deadline: float


def new_request_id() -> str:
    """A request's name in the engine and in the log; a caller's own id may repeat, so it is never used for this."""
    return f"req-{uuid.uuid4().hex}"


class Serving:
    """What both front doors enter."""

    def __init__(
        self,
        *,
        engine: Engine,
        slots: Slots,
        registry: Registry,
        gate: Gate,
        readiness: Readiness,
        metrics: Metrics,
        base: Base,
        form: ServingForm,
        receipt: Callable[[str], Receipt | None],
        default_deadline_seconds: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._engine = engine
        self._slots = slots
        self._registry = registry
        self._gate = gate
        self._readiness = readiness
        self._metrics = metrics
        self._base = base
        self._form = form
        self._receipt = receipt
        self._default_deadline_seconds = default_deadline_seconds
        self._draw = draw
        gate.watch(slots)

    def check(self, model: str, *, tenant: str = DEFAULT_TENANT) -> None:
        """Raises what `enter` would before it waits: work for a request that cannot enter is not begun."""
        self._check_open()
        self._resolve(model, tenant)

    @asynccontextmanager
    async def enter(
        self,
        *,
        model: str,
        request_id: str,
        deadline_seconds: float | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> AsyncIterator[Ticket]:
        """Hold a running place and the adapter's lease. `model` is a model reference; empty is the base.

        Raises `NotReady`, `Draining`, `Overloaded`, `DeadlineExceeded`, `LoadFailed`, and of the catalog `NotFound`
        and `InvalidReference`.
        """
        entered_at = monotonic()
        seconds = self._default_deadline_seconds if deadline_seconds is None else deadline_seconds
        deadline = entered_at + seconds
        self._check_open()
        resolved = self._resolve(model, tenant)
        version = resolved.version
        admitted = self._gate.admitted(
            request_id,
            tenant=tenant,
            adapter="" if version is None else version.adapter,
            digest=None if version is None else version.digest,
            deadline=deadline,
        )
        async with admitted:
            self._metrics.queue_wait.observe(monotonic() - entered_at)
            yield Ticket(
                model=model,
                resolved=resolved,
                engine_adapter=None if version is None else self._slots.adapter(version.digest),
                request_id=request_id,
                answerer=self.answerer(resolved),
                entered_at=entered_at,
                deadline=deadline,
            )

    def charge(self, ticket: Ticket, *, prompt_tokens: int = 0, generated_tokens: int = 0) -> None:
        """Report what a request was served as it comes: who was served least is next (see `fairness`)."""
        self._gate.charge(ticket.request_id, prompt_tokens=prompt_tokens, generated_tokens=generated_tokens)

    async def generate(
        self, ticket: Ticket, prompt_token_ids: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """The engine's deltas until the deadline; counts tokens and times. Closing it aborts the request.

        Raises `DeadlineExceeded`, and `EngineError` where the engine ended before every choice did.
        """
        meter = StreamMeter(self._metrics, entered_at=ticket.entered_at)
        self.charge(ticket, prompt_tokens=len(prompt_token_ids))
        num_completion, num_cached, unfinished = 0, 0, set(range(sampling.num_choices))
        stream = self._engine.generate(
            prompt_token_ids, sampling, request_id=ticket.request_id, adapter=ticket.engine_adapter
        )
        try:
            deltas = each_in_time(stream, ticket.deadline)
            async with aclosing(deltas):
                async for delta in deltas:
                    meter.delivered(delta.choice)
                    num_completion += len(delta.token_ids)
                    self.charge(ticket, generated_tokens=len(delta.token_ids))
                    num_cached = max(num_cached, delta.num_cached_tokens)
                    if delta.finish_reason is not None:
                        unfinished.discard(delta.choice)
                    yield delta
            if unfinished:
                raise EngineError(f"the engine ended the stream with choices {sorted(unfinished)} incomplete")
        finally:
            num_prompt = len(prompt_token_ids) if meter.begun else 0
            self._metrics.count_tokens(prompt=num_prompt, cached=num_cached, completion=num_completion)

    async def score(
        self, ticket: Ticket, prompt_token_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[ContinuationScore]:
        """Log-probabilities of each continuation after the prompt, in their order. Raises `DeadlineExceeded`."""
        calls = [
            self._engine.score(
                prompt_token_ids,
                continuation,
                request_id=f"{ticket.request_id}-{index}",
                adapter=ticket.engine_adapter,
            )
            for index, continuation in enumerate(continuations)
        ]
        num_tokens = sum(len(prompt_token_ids) + len(continuation) for continuation in continuations)
        self.charge(ticket, prompt_tokens=num_tokens)
        scores = await in_time(all_or_none(calls), ticket.deadline)
        self._metrics.count_tokens(prompt=num_tokens, cached=0, completion=0)
        return scores

    def answerer(self, resolved: Resolved) -> Answerer:
        """The facts that stand in every reply."""
        version = resolved.version
        return Answerer(
            adapter=None if version is None else version.adapter,
            version_digest=None if version is None else version.digest,
            version_number=None if version is None else version.number,
            base=self._base.name,
            base_digest=self._base.digest,
            form=self._form,
            other_form=version is not None and version.form != self._form,
            parity=None if version is None else self._receipt(version.digest),
        )

    async def drain(self, timeout_seconds: float) -> int:
        """Refuse new work and wait for the admitted; returns how many requests still run at the time limit."""
        self._gate.close()
        self._readiness.drain()
        return await self._gate.drained(timeout_seconds)

    def _check_open(self) -> None:
        if self._readiness.draining:
            raise Draining("the server is shutting down: send the request to another replica")
        if not self._readiness.ready:
            raise NotReady("the engine is starting or being replaced: try again")

    def _resolve(self, model: str, tenant: str) -> Resolved:
        if model in ("", self._base.digest):
            return BARE_BASE
        resolved = self._registry.snapshot.resolve(model, tenant=tenant, draw=self._draw())
        if resolved.version is not None:
            self._registry.check_servable(resolved.version)
        return resolved
