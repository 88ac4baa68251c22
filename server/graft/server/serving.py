"""The one way to the engine: resolve a name, admit the request with its adapter; let go of all on the way out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TypeVar

from graft.adapters.adapter import DEFAULT_TENANT
from graft.adapters.catalog.snapshot import BARE_BASE, Draw, Resolved
from graft.adapters.folder.head import Head
from graft.adapters.form import ServingForm
from graft.server.admission.waiting import AdmissionQueue
from graft.server.engine.engine import (
    ContinuationScore,
    Delta,
    Engine,
    EngineAdapter,
    EngineError,
    HeadOutputs,
    InvalidRequest,
    Sampling,
)
from graft.server.engine.openai import OpenAIBackend, OpenAIRequest, Reply
from graft.server.engine.text import Text
from graft.server.errors import Draining, NotReady
from graft.server.operations.logs import current_request_id
from graft.server.operations.metrics import Metrics, RequestMeter
from graft.server.operations.readiness import Readiness
from graft.server.parity.receipt import Receipt
from graft.server.registry.chat_templates import ChatTemplates
from graft.server.registry.snapshots import Snapshots
from graft.server.residency.slots import Slots
from graft.server.runtime.deadlines import Ending, all_or_none, each_in_time, in_time

T = TypeVar("T")
Watched = Callable[[Resolved, str, Callable[[], Exception | None]], AbstractContextManager[None]]
"""Who answers, the request's name, and what failed in a stream that had begun."""


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
    """An admitted request. The engine knows it as `engine_id`, which is unique where a caller brings an id twice.

    `deadline` is in event loop seconds; when `ending` comes, the server gives up what still runs. What was computed
    with one `cache_salt` serves only requests with the same: no tenant learns from times what another has asked.
    `chat_template` is the adapter's own; None: the base's.
    """

    engine_id: str
    engine_adapter: EngineAdapter | None
    cache_salt: str | None
    meter: RequestMeter
    answerer: Answerer
    deadline: float
    ending: Ending
    chat_template: str | None = None

    @property
    def head(self) -> Head:
        """Of the adapter of a request that classifies."""
        assert self.engine_adapter is not None and self.engine_adapter.head is not None
        return self.engine_adapter.head

    @property
    def num_virtual_tokens(self) -> int:
        """Tokens that the engine reads before each prompt."""
        return 0 if self.engine_adapter is None else self.engine_adapter.num_virtual_tokens


class Serving:
    """What both front doors enter."""

    def __init__(
        self,
        *,
        engine: Engine,
        openai: OpenAIBackend,
        slots: Slots,
        snapshots: Snapshots,
        queue: AdmissionQueue,
        readiness: Readiness,
        metrics: Metrics,
        receipt: Callable[[str], Receipt | None],
        chat_templates: ChatTemplates,
        draw: Draw,
        watched: Watched,
        default_deadline_seconds: float,
    ) -> None:
        """`draw` decides who answers a request that names an adapter; `watched` is around each admission."""
        self._engine = engine
        self._openai = openai
        self._slots = slots
        self._snapshots = snapshots
        self._queue = queue
        self.readiness = readiness
        self._metrics = metrics
        self._receipt = receipt
        self._chat_templates = chat_templates
        self._draw = draw
        self._watched = watched
        self._default_deadline_seconds = default_deadline_seconds
        self._ending = Ending()

    def check(self, model: str, *, tenant: str, classifies: bool = False) -> Resolved:
        """What `enter` is told to enter. Raises what it would before it waits: work for a request that cannot enter is
        not begun. `InvalidRequest` where a text is asked of an adapter with a head, or classes (`classifies`) of whom
        has none.
        """
        self._check_open()
        return self._resolve(model, tenant, classifies=classifies)

    async def chat_template(self, resolved: Resolved) -> str | None:
        """What chats with the version are rendered by; None: the base's template. Raises StoreUnavailable."""
        return await self._chat_templates.of(resolved.version)

    async def text_for(self, resolved: Resolved, text: Text) -> Text:
        """The base's `text` as the version needs it. Raises StoreUnavailable, `Overloaded`."""
        num_virtual = 0 if resolved.version is None else resolved.version.num_virtual_tokens
        try:
            return await text.answered_by(await self.chat_template(resolved), num_virtual)
        except Exception:
            # A request that fails here is not entered, but answered for all the same.
            with self._watched(resolved, current_request_id(), lambda: None):
                raise

    @asynccontextmanager
    async def enter(
        self,
        *,
        model: str,
        tenant: str,
        request_id: str,
        deadline_seconds: float | None = None,
        resolved: Resolved | None = None,
    ) -> AsyncIterator[Ticket]:
        """Hold a running place and the adapter's lease. `model` is a model reference; empty is the base. `resolved` is
        what `check` said that it means, where the prompt was made for that.

        Raises `NotReady`, `Draining`, `Overloaded`, `DeadlineExceeded`, `LoadFailed`, and of the catalog `NotFound`
        and `InvalidReference`.
        """
        entered_at = monotonic()
        seconds = self._default_deadline_seconds if deadline_seconds is None else deadline_seconds
        deadline = entered_at + seconds
        self._check_open()
        resolved = self._resolve(model, tenant) if resolved is None else resolved
        version = resolved.version
        engine_id = f"{request_id}-{secrets.token_hex(4)}"
        admitted = self._queue.admitted(
            engine_id,
            tenant=tenant,
            adapter="" if version is None else version.adapter,
            digest=None if version is None else version.digest,
            deadline=deadline,
        )
        meter = RequestMeter(
            self._metrics, tenant=tenant, entered_at=entered_at, charge=partial(self._queue.charge, engine_id)
        )
        with self._watched(resolved, request_id, lambda: meter.error):
            template = await self.chat_template(resolved)
            async with admitted:
                self._metrics.queue_wait.observe(monotonic() - entered_at)
                yield Ticket(
                    engine_id=engine_id,
                    engine_adapter=None if version is None else self._slots.adapter(version.digest),
                    cache_salt=None if tenant == DEFAULT_TENANT else tenant,
                    meter=meter,
                    answerer=self._answerer(resolved),
                    deadline=deadline,
                    ending=self._ending,
                    chat_template=template,
                )

    async def generate(
        self, ticket: Ticket, prompt_token_ids: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """The engine's deltas until the deadline. Closing it aborts what runs of this prompt; others may follow it.

        Raises `DeadlineExceeded`, and `EngineError` where the engine ended before every choice did.
        """
        meter, num_tokens = ticket.meter, ticket.num_virtual_tokens + len(prompt_token_ids)
        part = meter.num_prompts
        meter.begins(part, num_tokens, num_choices=sampling.num_choices)
        stream = self._engine.generate(
            prompt_token_ids,
            sampling,
            request_id=f"{ticket.engine_id}-{part}" if part else ticket.engine_id,
            adapter=ticket.engine_adapter,
            cache_salt=ticket.cache_salt,
        )
        try:
            with _noted(ticket):
                async with aclosing(each_in_time(stream, ticket.deadline, ticket.ending)) as deltas:
                    async for delta in deltas:
                        meter.read(part, num_tokens=num_tokens, num_cached=delta.num_cached_tokens)
                        meter.made(part, delta.choice, len(delta.token_ids))
                        if delta.finish_reason is not None:
                            meter.ended(part, delta.choice)
                        yield delta
                _check_complete(ticket, [part])
        finally:
            meter.left(part)

    async def openai(self, ticket: Ticket, request: OpenAIRequest) -> Reply:
        """The answer, or its frames, until the deadline. Closing the frames aborts the request.

        Raises what `generate` does, and `InvalidRequest`.
        """
        parts = range(len(request.prompts))
        for index, prompt in enumerate(request.prompts):
            num_tokens = ticket.num_virtual_tokens + len(prompt.token_ids)
            ticket.meter.begins(index, num_tokens, num_choices=request.num_choices)
        answer = self._openai.answer(
            request,
            adapter=ticket.engine_adapter,
            request_id=ticket.engine_id,
            meter=ticket.meter,
            cache_salt=ticket.cache_salt,
        )
        reply = await in_time(answer, ticket.deadline, ticket.ending)
        if reply.frames is not None:
            return Reply(frames=_whole(ticket, reply.frames, parts))
        _check_complete(ticket, parts)
        return reply

    async def score(
        self, ticket: Ticket, prompt_token_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[ContinuationScore]:
        """Log-probabilities of each continuation after the prompt, in their order. Raises `DeadlineExceeded`.

        The prompt is computed once, and counts once.
        """
        meter, before = ticket.meter, ticket.meter.num_prompts
        sizes = [len(continuation) for continuation in continuations]
        sizes[0] += ticket.num_virtual_tokens + len(prompt_token_ids)
        calls = []
        for part, (continuation, num_tokens) in enumerate(zip(continuations, sizes, strict=True), before):
            meter.begins(part, num_tokens, num_choices=0)
            calls.append(
                self._engine.score(
                    prompt_token_ids,
                    continuation,
                    request_id=f"{ticket.engine_id}-{part}",
                    adapter=ticket.engine_adapter,
                    cache_salt=ticket.cache_salt,
                )
            )
        scores = await in_time(all_or_none(calls), ticket.deadline, ticket.ending)
        for part, num_tokens in enumerate(sizes, before):
            meter.read(part, num_tokens=num_tokens, num_cached=0 if part > before else scores[0].num_cached_tokens)
        return scores

    async def classify(self, ticket: Ticket, prompts: Sequence[Sequence[int]]) -> list[HeadOutputs]:
        """What the adapter's head says of each prompt, in their order. Raises `DeadlineExceeded`."""
        meter, adapter, before = ticket.meter, ticket.engine_adapter, ticket.meter.num_prompts
        assert adapter is not None
        calls = []
        for part, ids in enumerate(prompts, before):
            meter.begins(part, len(ids), num_choices=0)
            calls.append(
                self._engine.classify(
                    ids, request_id=f"{ticket.engine_id}-{part}", adapter=adapter, cache_salt=ticket.cache_salt
                )
            )
        found = await in_time(all_or_none(calls), ticket.deadline, ticket.ending)
        for part, (ids, one) in enumerate(zip(prompts, found, strict=True), before):
            meter.read(part, num_tokens=len(ids), num_cached=one.num_cached_tokens)
        return found

    def _answerer(self, resolved: Resolved) -> Answerer:
        """The facts that stand in every reply."""
        version, base, form = resolved.version, self._snapshots.base.identity, self._snapshots.form
        return Answerer(
            adapter=None if version is None else version.adapter,
            version_digest=None if version is None else version.digest,
            version_number=None if version is None else version.number,
            base=base.name,
            base_digest=base.digest,
            form=form,
            other_form=version is not None and version.form != form,
            parity=None if version is None else self._receipt(version.digest),
        )

    async def drain(self, timeout_seconds: float) -> int:
        """Refuse new work and wait for the admitted; returns how many requests still run at the time limit."""
        self._queue.close()
        self.readiness.drain()
        return await self._queue.drained(timeout_seconds)

    def end(self) -> None:
        """Whatever is admitted ends now with `Draining`."""
        error = Draining("the server ended before the answer was complete: send the request to another replica")
        self._queue.end(error)
        self._ending.come(error)

    def _check_open(self) -> None:
        if self.readiness.draining:
            raise Draining("the server is shutting down: send the request to another replica")
        if not self.readiness.ready:
            raise NotReady("the engine is starting or being replaced: try again")

    def _resolve(self, model: str, tenant: str, *, classifies: bool = False) -> Resolved:
        if model in ("", self._snapshots.base.identity.digest):
            _check_kind(BARE_BASE, classifies)
            return BARE_BASE
        resolved = self._snapshots.current.resolve(model, tenant=tenant, draw=self._draw)
        if resolved.version is not None:
            self._slots.require(resolved.version.digest)
            self._snapshots.check_servable(resolved.version)
        _check_kind(resolved, classifies)
        return resolved


def _check_kind(resolved: Resolved, classifies: bool) -> None:
    version = resolved.version
    if version is None or not version.num_labels:
        if classifies:
            who = "the base" if version is None else f"{version.adapter}@{version.number}"
            remedy = "name an adapter that graft finetune --task text-classification made, or ask for text"
            raise InvalidRequest(f"{who} has no head, and gives text, no classes: {remedy}", field="model")
    elif not classifies:
        who, what = f"{version.adapter}@{version.number}", f"a head of {version.num_labels} outputs"
        remedy = "ask /v1/classify or gRPC's Classify, or name an adapter without a head"
        raise InvalidRequest(f"{who} brings {what}, and gives classes, no text: {remedy}", field="model")


@contextmanager
def _noted(ticket: Ticket) -> Iterator[None]:
    """What fails within is known when the request ends, though its caller heard of it in a stream that had begun."""
    try:
        yield
    except Exception as error:
        ticket.meter.error = error
        raise


async def _whole(ticket: Ticket, stream: AsyncIterator[T], parts: Iterable[int]) -> AsyncGenerator[T, None]:
    """The stream until the deadline. Raises `EngineError` where it ends before every choice of its prompts did."""
    with _noted(ticket):
        async with aclosing(each_in_time(stream, ticket.deadline, ticket.ending)) as items:
            async for item in items:
                yield item
        _check_complete(ticket, parts)


def _check_complete(ticket: Ticket, parts: Iterable[int]) -> None:
    if any(map(ticket.meter.is_open, parts)):
        raise EngineError(f"the engine ended the request with {ticket.meter.num_open} of its choices incomplete")
