"""The gRPC front: every call is bounded, named, counted and logged, and its error has details."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import grpc
import grpc.aio
from grpc_status import rpc_status  # type: ignore[import-untyped]

from graft.server.api import tenants
from graft.server.api.faults import Fault, fault_of
from graft.server.api.grpc.fine_tuning.acting import HEADER as acting_header
from graft.server.api.grpc.fine_tuning.acting import Acting
from graft.server.api.grpc.status import status_of
from graft.server.api.grpc.types import Context, Handler
from graft.server.api.grpc.uploads import heard_out
from graft.server.api.tenants import Identify
from graft.server.errors import Overloaded, SlowReader
from graft.server.operations.logs import HEADER, named
from graft.server.operations.metrics import Metrics
from graft.server.runtime import session
from graft.server.runtime.deadlines import in_time
from graft.server.runtime.session import in_session
from graft.server.runtime.tenant import ActingJob, on_behalf_of

_log = logging.getLogger("graft.access")
# Health, reflection: the library's own servicers answer as they like.
_OURS = "/graft.v1."


@dataclass(kw_only=True)
class Call:
    """One call. Its tenant is empty until it is known."""

    method: str
    context: Context
    tenant: str = ""


class Front(grpc.aio.ServerInterceptor):
    """Around every call: its id, its tenant, the error table, the log line and the count.

    At most `max_calls` are under way, whatever they are; those refused for it cost next to nothing.

    Unary calls end at their deadline or after `default_seconds`; streams keep their own time, but a caller that takes
    nothing from one for `write_seconds` is let go.
    """

    def __init__(
        self,
        metrics: Metrics,
        identify: Identify,
        acting: Acting,
        *,
        max_calls: int,
        default_seconds: float,
        write_seconds: float,
    ) -> None:
        self._metrics = metrics
        self._identify = identify
        self._acting = acting
        self._max_calls = max_calls
        self._num_calls = 0
        self._default_seconds = default_seconds
        self._write_seconds = write_seconds

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or not method.startswith(_OURS):
            return handler
        make, run = self._around_handler(method, handler)
        return make(  # type: ignore[no-any-return]
            run,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _around_handler(self, method: str, handler: Any) -> tuple[Any, Any]:
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler, self._single(method, handler.unary_unary)
            case True, False:
                return grpc.stream_unary_rpc_method_handler, self._single(method, handler.stream_unary, heard_out)
            case False, True:
                return grpc.unary_stream_rpc_method_handler, self._streaming(method, handler.unary_stream)
            case _:
                return grpc.stream_stream_rpc_method_handler, self._streaming(method, handler.stream_stream)

    def _single(self, method: str, behaviour: Any, around: Callable[[Any], Any] = lambda behaviour: behaviour) -> Any:
        async def run(request: Any, context: Context) -> Any:
            call = Call(method=method, context=context)

            async def answer(request: Any, context: Context) -> Any:
                async with self._identified(call):
                    return await behaviour(request, context)

            async with self._around(call):
                left = context.time_remaining()
                seconds = self._default_seconds if left is None else left
                return await in_time(around(answer)(request, context), monotonic() + seconds)

        return run

    def _streaming(self, method: str, behaviour: Any) -> Any:
        # `context.write` instead of a generator: a cancellation then reaches the servicer at once, wherever it stands.
        async def run(request: Any, context: Context) -> None:
            call = Call(method=method, context=context)
            async with self._around(call), self._identified(call):
                stream: AsyncGenerator[Any, None] = behaviour(request, context)
                async with aclosing(stream):
                    async for message in stream:
                        await self._write(context, message)

        return run

    @asynccontextmanager
    async def _identified(self, call: Call) -> AsyncIterator[None]:
        call.tenant = self._identify(_metadata(call.context, tenants.HEADER))
        acting, said = None, _metadata(call.context, acting_header)
        if said is not None:
            job = await self._acting(said, caller=call.tenant, method=call.method)
            call.tenant, acting = (
                job.tenant,
                ActingJob(id=job.id, adapter=job.adapter, has_gate=job.spec.gate is not None),
            )
        with on_behalf_of(call.tenant, acting), in_session(_metadata(call.context, session.HEADER)):
            yield

    async def _write(self, context: Context, message: Any) -> None:
        try:
            async with asyncio.timeout(self._write_seconds):
                await context.write(message)
        except TimeoutError:
            raise SlowReader(f"the caller read nothing for {self._write_seconds:g} s") from None

    @asynccontextmanager
    async def _around(self, call: Call) -> AsyncIterator[None]:
        with named(_metadata(call.context, HEADER)) as request_id:
            call.context.set_trailing_metadata(((HEADER, request_id),))
            if self._num_calls >= self._max_calls:
                self._count(call, "resource_exhausted")
                overloaded = Overloaded("too many calls are open at once", retry_after_seconds=1.0)
                await _abort(call.context, fault_of(overloaded), request_id)
            start, outcome, fault = monotonic(), "cancelled", None
            self._num_calls += 1
            try:
                yield
                outcome = "ok"
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                fault = fault_of(error)
                outcome = fault.outcome
            finally:
                self._num_calls -= 1
                self._count(call, outcome)
                _log.info("grpc %s %s %.3fs", call.method, outcome, monotonic() - start)  # never what was said
            if fault is not None:
                await _abort(call.context, fault, request_id)

    def _count(self, call: Call, outcome: str) -> None:
        self._metrics.requests.labels(front="grpc", outcome=outcome, tenant=call.tenant).inc()


async def _abort(context: Context, fault: Fault, request_id: str) -> None:
    status = rpc_status.to_status(status_of(fault))
    await context.abort(status.code, status.details, (*status.trailing_metadata, (HEADER, request_id)))


def _metadata(context: Context, name: str) -> str | None:
    given = (value for key, value in context.invocation_metadata() or () if key == name)
    return next((value for value in given if isinstance(value, str)), None)
