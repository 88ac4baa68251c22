"""Every unary call, said once for both clients: its path, its request, and what is read from its response."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from graft.client import request
from graft.v1 import adapter_pb2, base_pb2, inference_pb2, server_pb2

GENERATE = "/graft.v1.InferenceService/Generate"
RUN_PROMPT = "/graft.v1.PromptService/RunPrompt"
UPLOAD_BASE = "/graft.v1.BaseService/UploadBase"
UPLOAD_VERSION = "/graft.v1.AdapterService/UploadVersion"
_MAX_PAGE = 100

Out = TypeVar("Out")


@dataclass(frozen=True, kw_only=True)
class Push:
    """A pushed version and, where one was asked for, the alias that points to it now."""

    version: adapter_pb2.AdapterVersion
    alias: adapter_pb2.Alias | None
    # How long the engine took to load the version; None where it was resident or no alias was moved.
    load_seconds: float | None
    # What the sender may not expect, in sentences.
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VersionDetails:
    """A version and the records (metrics, parity receipts) appended about it."""

    version: adapter_pb2.AdapterVersion
    records: tuple[adapter_pb2.Record, ...]


@dataclass(frozen=True, kw_only=True)
class Operation(Generic[Out]):
    """One unary call."""

    service: str
    method: str
    request: Message
    response: type[Message]
    read: Callable[[Message], Out]

    @property
    def path(self) -> str:
        """The call's full name on the wire."""
        return f"/graft.v1.{self.service}/{self.method}"


Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


def unary(service: str, request: Message, response: type[Response], read: Callable[[Response], Out]) -> Operation[Out]:
    """One call; its method is named by its request: `ScoreRequest` belongs to `Score`."""

    def read_checked(message: Message) -> Out:
        assert isinstance(message, response)
        return read(message)

    method = type(request).__name__.removesuffix("Request")
    return Operation(service=service, method=method, request=request, response=response, read=read_checked)


def _adapter(request: Message, response: type[Response], read: Callable[[Response], Out]) -> Operation[Out]:
    return unary("AdapterService", request, response, read)


def itself(message: Response) -> Response:
    """The response is what is read."""
    return message


def nothing(_: Message) -> None:
    """The response says nothing."""
    return


def new_request_id() -> str:
    """A request id that no other call has."""
    return uuid.uuid4().hex


def page_size(limit: int | None) -> int:
    """How many to ask for at once where `limit` are wanted, or all. Raises ValueError for a limit below 1."""
    if limit is None:
        return _MAX_PAGE
    if limit < 1:
        raise ValueError(f"limit is {limit}; it is 1 or more")
    return min(limit, _MAX_PAGE)


def score(
    prompt: request.PromptLike, continuations: request.Continuations, model: str
) -> Operation[inference_pb2.ScoreResponse]:
    message = request.score(prompt, continuations, model)
    return unary("InferenceService", message, inference_pb2.ScoreResponse, itself)


def classify(
    inputs: request.Inputs, model: str, truncate_prompt_tokens: int | None
) -> Operation[inference_pb2.ClassifyResponse]:
    message = request.classify(inputs, model, truncate_prompt_tokens)
    return unary("InferenceService", message, inference_pb2.ClassifyResponse, itself)


def tokenize(prompt: request.PromptLike) -> Operation[inference_pb2.TokenizeResponse]:
    message = inference_pb2.TokenizeRequest(prompt=request.prompt(prompt))
    return unary("InferenceService", message, inference_pb2.TokenizeResponse, itself)


def list_adapters(page_token: str) -> Operation[tuple[list[adapter_pb2.Adapter], str]]:
    return _adapter(
        adapter_pb2.ListAdaptersRequest(page_token=page_token),
        adapter_pb2.ListAdaptersResponse,
        lambda response: (list(response.adapters), response.next_page_token),
    )


def list_versions(adapter: str, page_token: str) -> Operation[tuple[list[adapter_pb2.AdapterVersion], str]]:
    return _adapter(
        adapter_pb2.ListVersionsRequest(adapter=adapter, page_token=page_token),
        adapter_pb2.ListVersionsResponse,
        lambda response: (list(response.versions), response.next_page_token),
    )


def get_adapter(adapter: str) -> Operation[adapter_pb2.Adapter]:
    return _adapter(
        adapter_pb2.GetAdapterRequest(adapter=adapter),
        adapter_pb2.GetAdapterResponse,
        lambda response: response.adapter,
    )


def list_bases() -> Operation[list[base_pb2.RegisteredBase]]:
    return unary(
        "BaseService",
        base_pb2.ListBasesRequest(),
        base_pb2.ListBasesResponse,
        lambda response: list(response.bases),
    )


def get_version(adapter: str, version: str | int) -> Operation[VersionDetails]:
    return _adapter(
        adapter_pb2.GetVersionRequest(adapter=adapter, version=str(version)),
        adapter_pb2.GetVersionResponse,
        lambda response: VersionDetails(version=response.version, records=tuple(response.records)),
    )


def import_version(
    adapter: str, path: str, alias: str, allow_noop: bool, allow_other_quantization: bool
) -> Operation[Push]:
    message = adapter_pb2.ImportVersionRequest(
        adapter=adapter,
        path=path,
        alias=alias,
        allow_noop=allow_noop,
        allow_other_quantization=allow_other_quantization,
        request_id=new_request_id(),
    )
    return _adapter(message, adapter_pb2.ImportVersionResponse, pushed)


Part = tuple[str, str | int, float]
"""An adapter, its version (a number, a digest or an alias), and what its updates are multiplied by."""


def merge_versions(adapter: str, parts: Sequence[Part], alias: str, allow_other_quantization: bool) -> Operation[Push]:
    message = adapter_pb2.MergeVersionsRequest(
        adapter=adapter,
        parts=[adapter_pb2.MergePart(adapter=name, version=str(one), weight=weight) for name, one, weight in parts],
        alias=alias,
        allow_other_quantization=allow_other_quantization,
        request_id=new_request_id(),
    )
    return _adapter(message, adapter_pb2.MergeVersionsResponse, pushed)


def set_alias(
    adapter: str, alias: str, version: str | int, weight_percent: int | None, etag: str | None
) -> Operation[adapter_pb2.SetAliasResponse]:
    message = adapter_pb2.SetAliasRequest(
        adapter=adapter,
        alias=alias,
        version=str(version),
        weight_percent=weight_percent,
        etag=etag,
        request_id=new_request_id(),
    )
    return _adapter(message, adapter_pb2.SetAliasResponse, itself)


def delete_adapter(adapter: str, force: bool) -> Operation[None]:
    message = adapter_pb2.DeleteAdapterRequest(adapter=adapter, force=force, request_id=new_request_id())
    return _adapter(message, adapter_pb2.DeleteAdapterResponse, nothing)


def delete_version(adapter: str, version: str | int) -> Operation[None]:
    message = adapter_pb2.DeleteVersionRequest(adapter=adapter, version=str(version), request_id=new_request_id())
    return _adapter(message, adapter_pb2.DeleteVersionResponse, nothing)


def delete_alias(adapter: str, alias: str) -> Operation[None]:
    message = adapter_pb2.DeleteAliasRequest(adapter=adapter, alias=alias, request_id=new_request_id())
    return _adapter(message, adapter_pb2.DeleteAliasResponse, nothing)


def residency() -> Operation[adapter_pb2.ListResidencyResponse]:
    return _adapter(adapter_pb2.ListResidencyRequest(), adapter_pb2.ListResidencyResponse, itself)


def set_pin(adapter: str, version: str | int, pinned: bool) -> Operation[adapter_pb2.ResidentVersion]:
    message = adapter_pb2.SetPinRequest(
        adapter=adapter, version=str(version), pinned=pinned, request_id=new_request_id()
    )
    return _adapter(message, adapter_pb2.SetPinResponse, lambda response: response.version)


def prefetch(adapter: str, version: str | int) -> Operation[bool]:
    message = adapter_pb2.PrefetchVersionRequest(adapter=adapter, version=str(version), request_id=new_request_id())
    return _adapter(message, adapter_pb2.PrefetchVersionResponse, lambda response: response.resident)


def collect_files() -> Operation[adapter_pb2.CollectFilesResponse]:
    message = adapter_pb2.CollectFilesRequest(request_id=new_request_id())
    return _adapter(message, adapter_pb2.CollectFilesResponse, itself)


def info() -> Operation[server_pb2.GetInfoResponse]:
    return unary("ServerService", server_pb2.GetInfoRequest(), server_pb2.GetInfoResponse, itself)


def drain(timeout_seconds: float) -> Operation[int]:
    message = server_pb2.DrainRequest(request_id=new_request_id())
    message.timeout.FromNanoseconds(round(timeout_seconds * 1e9))
    return unary("ServerService", message, server_pb2.DrainResponse, lambda response: response.num_unfinished)


_Published = adapter_pb2.UploadVersionResponse | adapter_pb2.ImportVersionResponse | adapter_pb2.MergeVersionsResponse


def pushed(response: _Published) -> Push:
    """What a push, an import or a sum gives back."""
    push = Push(version=response.version, alias=None, load_seconds=None, notices=tuple(response.notices))
    return moved(push, response) if response.HasField("alias") else push


def moved(push: Push, response: adapter_pb2.SetAliasResponse | _Published) -> Push:
    """The push with the alias that points at it now."""
    load_seconds = response.load_time.ToTimedelta().total_seconds() if response.HasField("load_time") else None
    return replace(push, alias=response.alias, load_seconds=load_seconds)
