"""A scripted Graft server on the loopback: the wire is real, the answers are given by the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import status_pb2

from graft.v1 import (
    adapter_pb2,
    adapter_pb2_grpc,
    common_pb2,
    inference_pb2,
    inference_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
)

ANSWERER = common_pb2.Answerer(
    adapter="dates", version_digest="sha256:" + "ab" * 32, version_number=2, base="rootstock-5m", form=1
)


def abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str, *details: Message) -> None:
    """End the call as a server with rich errors does."""
    packed = []
    for detail in details:
        any_message = AnyMessage()
        any_message.Pack(detail)
        packed.append(any_message)
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


def chunk(text: str, *, choice: int = 0, finish: int = 0, usage: bool = False) -> inference_pb2.GenerateResponse:
    """One message of a stream."""
    response = inference_pb2.GenerateResponse(
        choice=choice, text=text, token_ids=[ord(character) for character in text], finish_reason=finish
    )
    if usage:
        response.usage.CopyFrom(inference_pb2.Usage(prompt_tokens=3, completion_tokens=5))
    return response


@dataclass
class Script:
    """What the server answers, and what it was asked."""

    # Called with the servicer context before every answer: aborts where the test wants an error.
    fault: Callable[[grpc.ServicerContext], None] = lambda context: None
    stream: Callable[[grpc.ServicerContext], Iterator[inference_pb2.GenerateResponse]] = lambda context: iter(
        [inference_pb2.GenerateResponse(answerer=ANSWERER), chunk("on"), chunk("e", finish=1, usage=True)]
    )
    requests: list[Message] = field(default_factory=list)
    # The `authorization` of each call.
    tokens: list[str | bytes | None] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ready_after: int = 0
    # Uploads are answered after their header already.
    hasty: bool = False


class Inference(inference_pb2_grpc.InferenceServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    def Generate(self, request, context):
        self.script.requests.append(request)
        context.add_callback(self.script.cancelled.set)
        self.script.fault(context)
        yield from self.script.stream(context)

    def Score(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        scores = [
            inference_pb2.ContinuationScore(logprob=-float(len(text)), is_greedy=len(text) == 1)
            for text in request.continuations
        ]
        return inference_pb2.ScoreResponse(answerer=ANSWERER, scores=scores)

    def Tokenize(self, request, context):
        return inference_pb2.TokenizeResponse(token_ids=[1, 2, 3], max_model_tokens=512)


class Adapters(adapter_pb2_grpc.AdapterServiceServicer):
    PAGES = (("a", "b"), ("c",))

    def __init__(self, script: Script) -> None:
        self.script = script

    def ListAdapters(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        page = int(request.page_token or 0)
        adapters = [
            adapter_pb2.Adapter(
                adapter=name, num_versions=1, aliases=[adapter_pb2.Alias(alias="stable", version_number=1)]
            )
            for name in self.PAGES[page]
        ]
        token = str(page + 1) if page + 1 < len(self.PAGES) else ""
        return adapter_pb2.ListAdaptersResponse(adapters=adapters, next_page_token=token)

    def GetAdapter(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        aliases = [adapter_pb2.Alias(alias=name, version_number=1) for name in ("canary", "stable")]
        found = adapter_pb2.Adapter(adapter=request.adapter, num_versions=2, aliases=aliases)
        return adapter_pb2.GetAdapterResponse(adapter=found)

    def DeleteAdapter(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        return adapter_pb2.DeleteAdapterResponse()

    def UploadVersion(self, request_iterator, context):
        self.script.requests += [next(request_iterator)] if self.script.hasty else list(request_iterator)
        self.script.fault(context)
        return adapter_pb2.UploadVersionResponse(version=adapter_pb2.AdapterVersion(digest="sha256:cd", number=3))

    def ImportVersion(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        return adapter_pb2.ImportVersionResponse(version=adapter_pb2.AdapterVersion(digest="sha256:cd", number=3))

    def SetAlias(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        response = adapter_pb2.SetAliasResponse(alias=adapter_pb2.Alias(alias=request.alias, version_number=3))
        response.load_time.FromMilliseconds(125)
        return response


class Server(server_pb2_grpc.ServerServiceServicer):
    def __init__(self, script: Script) -> None:
        self.script = script

    def GetInfo(self, request, context):
        self.script.requests.append(request)
        self.script.fault(context)
        return server_pb2.GetInfoResponse(ready=len(self.script.requests) > self.script.ready_after)


class _Tokens(grpc.ServerInterceptor):
    def __init__(self, script: Script) -> None:
        self.script = script

    def intercept_service(self, continuation, details):
        self.script.tokens.append(dict(details.invocation_metadata).get("authorization"))
        return continuation(details)


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """A server on a free port that follows `script`; gives its address."""
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[_Tokens(script)])
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(Inference(script), server)
    adapter_pb2_grpc.add_AdapterServiceServicer_to_server(Adapters(script), server)
    server_pb2_grpc.add_ServerServiceServicer_to_server(Server(script), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
