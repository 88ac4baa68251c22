"""gRPC: answers, typed errors, deadlines, cancellation, health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from graft.v1 import common_pb2, server_pb2
from graft.v1 import inference_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.scripted.engine import MAX_MODEL_TOKENS


def generate_request(model: str = "", text: str = "x", max_tokens: int = 3, **others: Any) -> pb.GenerateRequest:
    sampling = pb.Sampling(max_tokens=max_tokens)
    return pb.GenerateRequest(model=model, prompt=pb.Prompt(text=text), sampling=sampling, **others)


async def details_of(call: Any) -> tuple[grpc.StatusCode, dict[type, Any]]:
    """The code and the rich details of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == caught.value.code().value[0]
    kinds = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.QuotaFailure,
    )
    found = {}
    for detail in status.details:
        for kind in kinds:
            if detail.Is(kind.DESCRIPTOR):
                found[kind] = kind()
                detail.Unpack(found[kind])
    return caught.value.code(), found


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_first_message_names_who_answers_and_the_last_counts(server: Server) -> None:
    messages = [one async for one in server.inference.Generate(generate_request(num_choices=2))]
    assert messages[0].answerer.base == "tiny"
    assert messages[0].answerer.base_digest == server.base.digest
    assert messages[0].answerer.form == common_pb2.SERVING_FORM_NF4
    assert messages[0].answerer.version_number == 0
    assert not any(one.HasField("answerer") for one in messages[1:])
    assert [one.choice for one in messages if one.finish_reason] == [0, 1]
    assert [one.HasField("usage") for one in messages] == [False] * 5 + [True]
    assert messages[-1].usage.completion_tokens == 6
    assert server.metric("graft_tokens_total", kind="completion") == 6
    assert server.metric("graft_requests_total", front="grpc", outcome="ok") == 1
    assert server.metric("graft_running_requests") == 0


async def test_every_violation_is_named_at_once(server: Server) -> None:
    request = pb.GenerateRequest(
        sampling=pb.Sampling(
            temperature=float("nan"),
            top_p=1.5,
            min_p=-1,
            max_tokens=0,
            presence_penalty=float("inf"),
            stop=["", "x" * 300],
            json_schema="{",
        ),
        num_choices=65,
        logprobs=21,
    )
    code, details = await details_of(server.inference.Generate(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    fields = {one.field for one in details[error_details_pb2.BadRequest].field_violations}
    assert fields == {
        "prompt",
        "num_choices",
        "logprobs",
        "sampling.temperature",
        "sampling.top_p",
        "sampling.min_p",
        "sampling.max_tokens",
        "sampling.presence_penalty",
        "sampling.stop[0]",
        "sampling.stop[1]",
        "sampling.json_schema",
    }
    assert server.script.num_started == 0


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        (pb.Prompt(text=""), "prompt.text"),
        (pb.Prompt(token_ids=pb.TokenIds()), "prompt.token_ids.ids"),
        (pb.Prompt(token_ids=pb.TokenIds(ids=[1, 40])), "prompt.token_ids.ids[1]"),
        (pb.Prompt(token_ids=pb.TokenIds(ids=[2**32 - 1])), "prompt.token_ids.ids[0]"),
        (pb.Prompt(chat=pb.Chat()), "prompt.chat.messages"),
        (pb.Prompt(chat=pb.Chat(messages=[pb.Message(role="bot", content="x")])), "prompt.chat.messages[0].role"),
        (pb.Prompt(text="x" * (64 * MAX_MODEL_TOKENS + 1)), "prompt.text"),
    ],
    ids=["empty", "no-ids", "out-of-vocabulary", "largest-id", "no-turns", "role", "long"],
)
async def test_an_unusable_prompt_is_refused_by_field(server: Server, prompt: pb.Prompt, field: str) -> None:
    for call in (
        server.inference.Generate(pb.GenerateRequest(prompt=prompt)),
        server.inference.Score(pb.ScoreRequest(prompt=prompt, continuations=["y"])),
        server.inference.Tokenize(pb.TokenizeRequest(prompt=prompt)),
    ):
        code, details = await details_of(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert [one.field for one in details[error_details_pb2.BadRequest].field_violations] == [field]


async def test_an_unknown_model_is_not_found(server: Server) -> None:
    code, details = await details_of(server.inference.Generate(generate_request("nobody")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert details[error_details_pb2.ErrorInfo].reason == "NOT_FOUND"


async def test_a_score_covers_the_appended_tokens(server: Server) -> None:
    """`ab` is one token: after the prompt `xa`, the continuation `b` would straddle the seam and stands alone."""
    request = pb.ScoreRequest(prompt=pb.Prompt(text="xa"), continuations=["cd", "b"])
    counted = server.metric("graft_tokens_total", kind="prompt")
    response = await server.inference.Score(request)
    assert server.metric("graft_tokens_total", kind="prompt") == counted + 5, "the prompt is computed once"
    assert [[token.token_id for token in score.tokens] for score in response.scores] == [
        [ord("c") % 40, ord("d") % 40],
        [ord("b") % 40],
    ]
    assert [score.logprob for score in response.scores] == [-1.0, -0.5]
    code, details = await details_of(
        server.inference.Score(pb.ScoreRequest(prompt=pb.Prompt(text="x"), continuations=["y", ""]))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert [one.field for one in details[error_details_pb2.BadRequest].field_violations] == ["continuations[1]"]


@pytest.mark.parametrize("verb", ["generate", "score"])
async def test_a_hung_engine_does_not_hold_a_deadline(start_server: StartServer, verb: str) -> None:
    server = await start_server(default_deadline_seconds=0.2)
    server.script.hang = True
    call: Any = server.inference.Generate(generate_request())
    if verb == "score":
        call = server.inference.Score(pb.ScoreRequest(prompt=pb.Prompt(text="x"), continuations=["y"]))
    async with asyncio.timeout(50 * 0.2):  # the engine would hold it for ever
        code, _ = await details_of(call)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: not server.script.active)
    assert server.metric("graft_running_requests") == 0


async def test_a_short_deadline_of_the_caller_is_kept(server: Server) -> None:
    server.script.token_seconds = 0.05
    start = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in server.inference.Generate(generate_request(max_tokens=40), timeout=0.05):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 40 * server.script.token_seconds / 2, "long before the engine would have ended"
    await until(lambda: not server.script.active)


async def test_cancellation_reaches_the_engine(server: Server) -> None:
    server.script.token_seconds = 0.02
    call = server.inference.Generate(generate_request(max_tokens=900))
    assert await call.read() is not grpc.aio.EOF
    assert len(server.script.active) == 1
    call.cancel()
    await until(lambda: not server.script.active, 1.0)
    await until(lambda: server.metric("graft_running_requests") == 0)
    assert server.metric("graft_requests_total", front="grpc", outcome="cancelled") == 1


async def test_expired_queued_work_never_starts_and_excess_is_refused(start_server: StartServer) -> None:
    server = await start_server(max_running=1, max_queued=1)
    server.script.token_seconds = 0.05
    running = server.inference.Generate(generate_request(max_tokens=900))
    await running.read()
    queued = server.inference.Generate(generate_request(), timeout=0.15)
    waiting = asyncio.ensure_future(details_code(queued))
    await until(lambda: server.metric("graft_queued_requests") == 1)
    start = time.monotonic()
    code, details = await details_of(server.inference.Generate(generate_request()))
    assert time.monotonic() - start < 0.1
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details[error_details_pb2.RetryInfo].retry_delay.ToMilliseconds() > 0
    assert details[error_details_pb2.QuotaFailure].violations
    assert await waiting is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: server.metric("graft_queued_requests") == 0)
    running.cancel()
    await until(lambda: not server.script.active)
    assert server.script.num_started == 1


async def details_code(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value.code()


async def test_a_stream_that_the_engine_breaks_off_is_not_complete(server: Server) -> None:
    server.script.break_after = 2
    code, _ = await details_of(server.inference.Generate(generate_request(max_tokens=5)))
    assert code is grpc.StatusCode.INTERNAL


async def test_an_unexpected_error_shows_nothing_of_itself(server: Server) -> None:
    server.script.crash = RuntimeError("secret")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in server.inference.Generate(generate_request()):
            pass
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value.details())


async def test_a_dead_engine_ends_streams_as_unavailable_and_is_replaced(server: Server) -> None:
    server.script.token_seconds = 0.02
    call = aiter(server.inference.Generate(generate_request(max_tokens=900)))
    await anext(call)
    server.script.start_allowed.clear()
    server.script.engines[0].die()
    code, details = await details_of(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert details[error_details_pb2.RetryInfo].retry_delay.ToMilliseconds() > 0
    code, _ = await details_of(server.inference.Generate(generate_request()))
    assert code is grpc.StatusCode.UNAVAILABLE
    info = await server.server.GetInfo(server_pb2.GetInfoRequest())
    assert not info.ready
    server.script.start_allowed.set()
    await until(lambda: server.running.serving.readiness.ready)
    assert [one async for one in server.inference.Generate(generate_request())]
    info = await server.server.GetInfo(server_pb2.GetInfoRequest())
    assert info.ready and info.engine_restarts == 1
    assert info.engine_pid == server.script.engines[1].pid
    assert server.metric("graft_engine_restarts_total") == 1


async def test_a_caller_who_does_not_read_is_let_go(start_server: StartServer) -> None:
    server = await start_server(slow_reader_seconds=1.0)
    server.script.token_seconds = 0.0
    server.script.padding = 20_000
    call = server.inference.Generate(generate_request(max_tokens=2**31))
    await until(lambda: len(server.script.active) == 1)
    # The engine's answers are never read here: flow control fills up, and nothing behind it may.
    await until(lambda: not server.script.active, 30.0)
    await until(lambda: server.metric("graft_requests_total", front="grpc", outcome="resource_exhausted") == 1)
    assert server.metric("graft_tokens_total", kind="completion") < 500, "at most 10 MB lie in buffers"
    call.cancel()


async def test_health_is_watched_through_restart_and_drain(server: Server) -> None:
    stub = health_pb2_grpc.HealthStub(server.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="graft.v1.InferenceService"))
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await watch.read()).status == serving
    # A watcher hears of the latest state only, so the next engine waits until this one's end was heard of.
    server.script.start_allowed.clear()
    server.script.engines[0].die()
    assert (await watch.read()).status == not_serving
    server.script.start_allowed.set()
    assert (await watch.read()).status == serving
    await server.server.Drain(server_pb2.DrainRequest())
    assert (await watch.read()).status == not_serving
    watch.cancel()


async def test_a_drain_lets_the_admitted_end_and_refuses_the_new(server: Server) -> None:
    server.script.token_seconds = 0.01
    call = aiter(server.inference.Generate(generate_request(max_tokens=30)))
    await anext(call)
    drain = asyncio.ensure_future(server.running.serving.drain(5.0))
    await asyncio.sleep(0)
    code, _ = await details_of(server.inference.Generate(generate_request()))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert (await server.http.get("/readyz")).status_code == 503
    assert (await server.http.get("/livez")).status_code == 200
    messages = [one async for one in call]
    assert messages[-1].finish_reason == common_pb2.FINISH_REASON_LENGTH
    assert await drain == 0


async def test_a_drain_says_how_much_was_left(server: Server) -> None:
    server.script.hang = True
    call = server.inference.Generate(generate_request())
    await until(lambda: len(server.script.active) == 1)
    request = server_pb2.DrainRequest()
    request.timeout.FromMilliseconds(50)
    assert (await server.server.Drain(request)).num_unfinished == 1
    call.cancel()


async def test_reflection_lists_our_services(server: Server, start_server: StartServer) -> None:
    async def ask() -> list[str]:
        stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [one async for one in stub.ServerReflectionInfo(iter([request]))]
        return [service.name for service in answers[0].list_services_response.service]

    assert {"graft.v1.InferenceService", "graft.v1.AdapterService", "graft.v1.ServerService"} <= set(await ask())
