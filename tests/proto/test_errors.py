"""Every gRPC status becomes an error of its own class, with all that the server said."""

from __future__ import annotations

import builtins

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as details

from graft import client as graft_client
from graft.client import AsyncClient, Client, GraftClientError, operation
from graft.v1.adapter_pb2 import UploadChunk, UploadVersionRequest, UploadVersionResponse
from tests.proto.scripted_server import Script, abort

EXPECTED = {
    "INVALID_ARGUMENT": ("InvalidArgument", "ValueError"),
    "NOT_FOUND": ("NotFound", "LookupError"),
    "ALREADY_EXISTS": ("Conflict", "Exception"),
    "ABORTED": ("Conflict", "Exception"),
    "FAILED_PRECONDITION": ("Conflict", "Exception"),
    "RESOURCE_EXHAUSTED": ("ResourceExhausted", "Exception"),
    "UNAVAILABLE": ("Unavailable", "ConnectionError"),
    "DEADLINE_EXCEEDED": ("DeadlineExceeded", "TimeoutError"),
    "PERMISSION_DENIED": ("PermissionDenied", "PermissionError"),
    "UNAUTHENTICATED": ("Unauthenticated", "PermissionError"),
    "UNIMPLEMENTED": ("Unimplemented", "NotImplementedError"),
    "INTERNAL": ("Internal", "Exception"),
    "DATA_LOSS": ("Internal", "Exception"),
}


@pytest.mark.parametrize("status", EXPECTED)
def test_each_status_has_its_class(client: Client, script: Script, status: str) -> None:
    script.fault = lambda context: abort(context, grpc.StatusCode[status], "what happened")
    with pytest.raises(GraftClientError, match="what happened") as caught:
        client.generate("x")
    name, builtin = EXPECTED[status]
    assert type(caught.value) is getattr(graft_client, name)
    assert isinstance(caught.value, getattr(builtins, builtin))
    assert caught.value.code is grpc.StatusCode[status]


@pytest.mark.parametrize("reason", ["NO_ANSWER", "UNSUPPORTED_CLAIMS"])
def test_words_without_an_answer_have_a_class_of_their_own(client: Client, script: Script, reason: str) -> None:
    script.fault = lambda context: abort(
        context, grpc.StatusCode.FAILED_PRECONDITION, "no number", details.ErrorInfo(reason=reason, domain="graft")
    )
    with pytest.raises(graft_client.NoAnswer, match="no number") as caught:
        client.generate("x")
    assert isinstance(caught.value, graft_client.Conflict) and caught.value.reason == reason


def test_a_lost_lease_has_a_class_of_its_own(client: Client, script: Script) -> None:
    reason = details.ErrorInfo(reason="LEASE_LOST", domain="graft")
    script.fault = lambda context: abort(context, grpc.StatusCode.ABORTED, "stop working", reason)
    with pytest.raises(graft_client.LeaseLost, match="stop working") as caught:
        client.generate("x")
    assert isinstance(caught.value, graft_client.Conflict)


def refuse(context: grpc.ServicerContext) -> None:
    violations = [("sampling.top_p", "2.0 is above 1"), ("prompt", "is empty")]
    abort(
        context,
        grpc.StatusCode.INVALID_ARGUMENT,
        "2 fields cannot be used",
        details.BadRequest(
            field_violations=[details.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
        ),
        details.ErrorInfo(reason="INVALID_REQUEST", domain="graft", metadata={"limit": "1"}),
    )


def test_all_violations_come_at_once(client: Client, script: Script) -> None:
    script.fault = refuse
    with pytest.raises(graft_client.InvalidArgument) as caught:
        client.score("x", ["y"])
    assert [violation.field for violation in caught.value.violations] == ["sampling.top_p", "prompt"]
    assert str(caught.value) == "2 fields cannot be used: sampling.top_p: 2.0 is above 1 | prompt: is empty"
    assert (caught.value.reason, caught.value.metadata) == ("INVALID_REQUEST", {"limit": "1"})


async def test_the_asyncio_client_says_the_same(async_client: AsyncClient, script: Script) -> None:
    script.fault = refuse
    for call in (async_client.score("x", ["y"]), async_client.generate("x"), async_client.adapters()):
        with pytest.raises(graft_client.InvalidArgument, match="prompt: is empty"):
            await call


async def test_an_upload_that_is_refused_while_it_is_sent_says_why(async_client: AsyncClient, script: Script) -> None:
    """grpc/grpc#36066: gRPC's asyncio API says "Internal error from Core" there."""
    script.fault, script.hasty = refuse, True
    chunk = UploadVersionRequest(chunk=UploadChunk(file="adapter_model.safetensors", data=bytes(1 << 20)))
    for _ in range(20):
        with pytest.raises(graft_client.InvalidArgument, match="prompt: is empty"):
            await async_client._upload(operation.UPLOAD_VERSION, iter([chunk] * 20), UploadVersionResponse, 60.0)


def test_when_to_try_again_is_told(client: Client, script: Script) -> None:
    script.fault = lambda context: abort(
        context,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the queue is full",
        details.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),
        details.QuotaFailure(violations=[details.QuotaFailure.Violation(subject="queue", description="256 wait")]),
    )
    with pytest.raises(graft_client.ResourceExhausted) as caught:
        client.generate("x")
    assert caught.value.retry_after_seconds == 1.5
    assert caught.value.violations[0].field == "queue"


def test_unreadable_details_do_not_hide_the_error(client: Client, script: Script) -> None:
    def fault(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    script.fault = fault
    with pytest.raises(graft_client.NotFound, match="no such model"):
        client.generate("x")


def test_a_call_ends_at_its_timeout(client: Client, script: Script) -> None:
    import time

    script.fault = lambda context: time.sleep(1)
    with pytest.raises(graft_client.DeadlineExceeded):
        client.generate("x", timeout=0.2)


def test_reading_is_retried_and_changing_is_not(client: Client, script: Script) -> None:
    script.fault = lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
    with pytest.raises(graft_client.Unavailable):
        client.score("x", ["y"])
    assert len(script.requests) > 1
    script.requests.clear()
    for change in (lambda: client.set_alias("a", "stable", 1), lambda: client.generate("x")):
        with pytest.raises(graft_client.Unavailable):
            change()
    assert len(script.requests) == 2


def test_a_place_that_the_server_left_is_filled_in(client: Client, script: Script) -> None:
    violation = details.BadRequest.FieldViolation(field="adapter", description="run: graft compile FOLDER")
    bad = details.BadRequest(field_violations=[violation])
    script.fault = lambda context: abort(context, grpc.StatusCode.INVALID_ARGUMENT, "no: graft compile FOLDER", bad)
    with pytest.raises(GraftClientError) as caught:
        client.generate("x")
    caught.value.fill_in("compile FOLDER", "compile 'my adapter'")
    assert "no: graft compile 'my adapter'" in str(caught.value) and "FOLDER" not in str(caught.value)
