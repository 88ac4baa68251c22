"""Asks one server over HTTP and gRPC and keeps what came back, without what differs from one run to the next."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import httpx
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from graft.v1 import adapter_pb2, base_pb2, inference_pb2, server_pb2

_SERVICES = {
    service.name: service
    for module in (adapter_pb2, base_pb2, inference_pb2, server_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
_STATUS = "grpc-status-details-bin"
# Their values are part of the answer; of other headers only the name is kept.
_KEPT_HEADERS = {"content-type", "cache-control", "accept-encoding", "connection", "retry-after"}
_MASKED_IN_JSON = re.compile(rb'"created":\d+|"message":"(?:[^"\\]|\\.)*"|"id":"(?:chatcmpl|cmpl)-(?!golden-)[^"]*"')
_MASKED_FIELDS = {"create_time", "update_time", "load_time", "etag", "engine_pid", "engine_id", "description"}
_MASKED_FIELDS |= {"checked_at", "retry_delay"}
_WORDS = {"notices", "not_ready_reason", "message"}
_COUNTERS = re.compile(
    r"^graft_(requests_total|tokens_total|time_to_first_token_seconds_count|queue_wait_seconds_count)(\S*) (\S+)$", re.M
)
# As JSON, as bytes, or a stream of messages.
Request = Mapping[str, Any] | bytes | Sequence[Message]
EMPTY: Mapping[str, Any] = {}
_COUNT_SECONDS = 1.0


class Recorder:
    """`exchanges` maps each row's id to what it brought: the reply, and what the server counted for it."""

    def __init__(self, *, grpc_target: str, http_url: str) -> None:
        self.exchanges: dict[str, Any] = {}
        self.channel = grpc.insecure_channel(grpc_target)
        self._http = httpx.Client(base_url=http_url, timeout=120)
        self._counted = self._counters()
        self._counts = True

    def close(self) -> None:
        self.channel.close()
        self._http.close()

    def http(
        self,
        row: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """One request; a mapping is sent as JSON."""
        content = httpx.Request("POST", "http://x", json=body).content if isinstance(body, Mapping) else body
        sent = {"content-type": "application/json", "x-request-id": _request_id(row), **(headers or {})}
        reply = self._http.request(method or ("GET" if body is None else "POST"), path, content=content, headers=sent)
        raw = _MASKED_IN_JSON.sub(lambda match: b'"%s":<masked>' % match[0].split(b'"')[1], reply.content)
        if path == "/metrics":
            raw = _series(raw)
        elif path == "/readyz" and reply.status_code != 200:
            raw = b"<masked>"
        kept = {name: _kept_value(name, value) for name, value in sorted(reply.headers.items())}
        body_lines = raw.decode().split("\n")
        self._keep(row, {"status": reply.status_code, "headers": kept, "body": body_lines})

    def raw_http(self, row: str, data: bytes) -> None:
        """Bytes as they are over a connection of their own; kept are the status line and the headers' names."""
        url = self._http.base_url
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                head = file.read().partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        self._keep(row, {"head": [head[0], *sorted(line.partition(":")[0] for line in head[1:])]})

    def grpc(
        self,
        row: str,
        method: str,
        request: Request = EMPTY,
        *,
        timeout: float = 120.0,
    ) -> list[dict[str, Any]]:
        """One call of `Service/Method`: a mapping is the request as JSON, a sequence is a stream of messages.

        Returns the replies as they are.
        """
        call = self.call(method, request, row, timeout)
        replies: list[dict[str, Any]] = []
        error: grpc.RpcError | None = None
        try:
            replies = [as_json(reply) for reply in call]
        except grpc.RpcError as caught:
            error = caught
        kept = [masked(reply) for reply in replies]
        if method.endswith("/Generate"):
            kept = _by_choice(kept)
        self._keep(row, {"status": _status(error or call), "replies": kept})
        return replies

    def call(self, method: str, request: Request, row: str, timeout: float = 120.0) -> Any:
        """A running call, whose replies are iterated over."""
        service, _, name = method.partition("/")
        described = _SERVICES[service].methods_by_name.get(name) if service in _SERVICES else None
        full = f"/{_SERVICES[service].full_name if service in _SERVICES else service}/{name}"
        # As a stream both ways: on the wire a single message is a stream of one.
        call = self.channel.stream_stream(
            full, request_serializer=_to_bytes, response_deserializer=_reader(described) if described else bytes
        )
        metadata = (("x-request-id", _request_id(row)),)
        return call(iter(_messages(described, request)), timeout=timeout, metadata=metadata)

    def wait_for(self, series: str, value: float) -> None:
        """Until the server says so of one of its gauges."""
        end = time.monotonic() + 60
        while f"\n{series} {value}\n" not in self._metrics():
            if not self._metrics() or time.monotonic() > end:
                raise TimeoutError(f"{series} did not become {value}")
            time.sleep(0.02)

    def _keep(self, row: str, found: dict[str, Any]) -> None:
        if row in self.exchanges:
            raise ValueError(f"two rows are called {row!r}")
        self.exchanges[row] = {**found, "counted": self._newly_counted()} if self._counts else found

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """While other requests run beside the rows."""
        self._counts = False
        yield
        with suppress(TimeoutError):
            self.wait_for("graft_running_requests", 0.0)
        self._newly_counted()
        self._counts = True

    def _newly_counted(self) -> dict[str, float]:
        """A request is counted a moment after its reply's last byte."""
        before = last = self._counted
        end = time.monotonic() + _COUNT_SECONDS
        while time.monotonic() < end:
            now = self._counters()
            if now == last != before:
                break
            last = now
            time.sleep(0.01)
        self._counted = last
        return {name: last[name] - before.get(name, 0.0) for name in sorted(last) if last[name] != before.get(name)}

    def _counters(self) -> dict[str, float]:
        return {name + labels: float(value) for name, labels, value in _COUNTERS.findall(self._metrics())}

    def _metrics(self) -> str:
        """Empty where the server has ended."""
        try:
            return self._http.get("/metrics").text
        except httpx.TransportError:
            return ""


def _kept_value(header: str, value: str) -> str:
    if header == "allow":  # a set
        return ", ".join(sorted(value.split(", ")))
    is_kept = header in _KEPT_HEADERS or header.startswith("x-graft-") or value.startswith("golden-")
    return value if is_kept else "<masked>"


def _by_choice(replies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A stream's messages, put together for each choice: how they interleave, and which hold two tokens, is chance.

    What stands in the stream's first message and in its last is left apart.
    """
    choices: dict[int, dict[str, Any]] = {}
    for reply in replies:
        so_far = choices.setdefault(reply.get("choice", 0), {})
        for name, value in reply.items():
            if name in ("text", "token_ids", "logprobs"):
                so_far[name] = so_far[name] + value if name in so_far else value
            elif name not in ("answerer", "usage"):
                so_far[name] = value
    first = [{"answerer": replies[0].get("answerer")}] if replies else []
    last = [{"usage": replies[-1].get("usage")}] if replies else []
    return [*first, *(choices[number] for number in sorted(choices)), *last]


def masked(value: Any, field: str = "") -> Any:
    """Without ids, times and words."""
    if field in _WORDS and isinstance(value, list):
        return ["<masked>"] * len(value)
    if field in _MASKED_FIELDS or (field in _WORDS and value):
        return "<masked>"
    if isinstance(value, Mapping):
        return {name: masked(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    return value


def as_json(message: Message | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        return {"bytes": message.hex()}
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _reader(method: MethodDescriptor) -> Any:
    return message_factory.GetMessageClass(method.output_type).FromString


def _messages(method: MethodDescriptor | None, request: Request) -> Iterable[Message | bytes]:
    if isinstance(request, bytes):
        return [request]
    if not isinstance(request, Mapping):
        return request
    if method is None:
        return [b""]
    return [json_format.ParseDict(request, message_factory.GetMessageClass(method.input_type)())]


def _to_bytes(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def _status(call: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"code": call.code().name, "has_words": bool(call.details())}
    trailers = list(call.trailing_metadata() or ())
    found["trailers"] = sorted(key for key, _ in trailers)
    for key, value in trailers:
        if key == _STATUS:
            found["details"] = [masked(_detail(one)) for one in status_pb2.Status.FromString(value).details]
    return found


def _detail(packed: Any) -> dict[str, Any]:
    name = packed.TypeName()
    kind = message_factory.GetMessageClass(Default().FindMessageTypeByName(name))
    assert error_details_pb2  # its types are in the pool
    try:
        return {"type": name, **as_json(kind.FromString(packed.value))}
    except DecodeError:
        return {"type": name, "bytes": packed.value.hex()}


def _series(text: bytes) -> bytes:
    """Names and types of our series, and their labels without buckets; values are other rows' matter."""
    lines = set()
    for line in text.decode().split("\n"):
        if line.startswith("# TYPE "):
            lines.add(line)
        elif line.startswith("graft_") and "le=" not in line:
            lines.add(line.rpartition(" ")[0])
    return "\n".join(sorted(lines)).encode()


def _request_id(row: str) -> str:
    return "golden-" + re.sub(r"[^a-z0-9]+", "-", row.lower()).strip("-")
