"""What a call may raise: one class per kind of failure, each refining the builtin that fits it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One thing that is wrong: the request's field, or the quota's subject, and what about it."""

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


@dataclass(frozen=True, kw_only=True)
class Details:
    """What the server says beside the message (google.rpc.*)."""

    violations: tuple[Violation, ...] = ()
    retry_after_seconds: float | None = None
    reason: str | None = None
    metadata: Mapping[str, str] | None = None


class GraftClientError(Exception):
    """A call failed. `code` is the gRPC status, `violations` are all reasons at once."""

    def __init__(self, message: str, *, code: grpc.StatusCode, details: Details | None = None) -> None:
        super().__init__(message)
        details = details or Details()
        self.message = message
        self.code = code
        self.violations = details.violations
        self.retry_after_seconds = details.retry_after_seconds
        self.reason = details.reason
        self.metadata: Mapping[str, str] = details.metadata or {}

    def fill_in(self, place: str, text: str) -> None:
        """Put a text into the place that the server left for it, wherever it is."""
        self.message = self.message.replace(place, text)
        self.violations = tuple(
            replace(one, description=one.description.replace(place, text)) for one in self.violations
        )

    def __str__(self) -> str:
        new = [str(violation) for violation in self.violations if violation.description not in self.message]
        return f"{self.message}: " + " | ".join(new) if new else self.message


class InvalidArgument(GraftClientError, ValueError):
    """The request cannot be carried out as it stands; every violation is named."""


class NotFound(GraftClientError, LookupError):
    """No such model, adapter, version, alias, file or job."""


class Conflict(GraftClientError):
    """It exists already, is still in use, or somebody else moved it first."""


class NoAnswer(Conflict):
    """The model answered, and what it said is no answer of the kind that the program promises, or cites no support."""


class LeaseLost(Conflict):
    """The worker does not have the job any more, and must stop working on it."""


class PermissionDenied(GraftClientError, PermissionError):
    """The caller may not do this."""


class Unauthenticated(GraftClientError, PermissionError):
    """The server does not know who is calling."""


class ResourceExhausted(GraftClientError):
    """A queue, quota or slot is full; see `retry_after_seconds`."""


class Unavailable(GraftClientError, ConnectionError):
    """No server, or it is starting, draining or replacing its engine; the call may be tried again."""


class DeadlineExceeded(GraftClientError, TimeoutError):
    """The call did not end within its timeout."""


class Cancelled(GraftClientError):
    """The call was cancelled."""


class Unimplemented(GraftClientError, NotImplementedError):
    """The server does not offer this call."""


class Internal(GraftClientError):
    """The server failed in a way that it did not expect."""


class IncompleteStream(Internal):
    """A stream ended without a finish reason for every choice: what came is not the whole answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=grpc.StatusCode.DATA_LOSS)


_CLASSES: Mapping[grpc.StatusCode, type[GraftClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
}
# Where the server's reason says more than the status.
_REASONS: Mapping[str, type[GraftClientError]] = {
    "LEASE_LOST": LeaseLost,
    "NO_ANSWER": NoAnswer,
    "UNSUPPORTED_CLAIMS": NoAnswer,
}


def from_rpc_error(error: grpc.RpcError) -> GraftClientError:
    """The error of this module that says what `error` says. A status without a class of its own is `Internal`."""
    code = error.code()
    details = _details(error)
    kind = _REASONS.get(details.reason or "") or _CLASSES.get(code, Internal)
    return kind(error.details() or code.name.lower().replace("_", " "), code=code, details=details)


def not_ready(target: str, timeout_seconds: float) -> Unavailable:
    """The error of a wait that ended in vain."""
    message = f"the server at {target} was not ready within {timeout_seconds:g} s"
    return Unavailable(message, code=grpc.StatusCode.UNAVAILABLE)


def _details(error: grpc.RpcError) -> Details:
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return _read_details(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return Details()


def _read_details(status: status_pb2.Status) -> Details:
    violations: list[Violation] = []
    retry_after_seconds: float | None = None
    reason: str | None = None
    metadata: dict[str, str] = {}
    for detail in _unpacked(status):
        if isinstance(detail, error_details_pb2.BadRequest):
            violations += [Violation(field=v.field, description=v.description) for v in detail.field_violations]
        elif isinstance(detail, error_details_pb2.QuotaFailure | error_details_pb2.PreconditionFailure):
            violations += [Violation(field=v.subject, description=v.description) for v in detail.violations]
        elif isinstance(detail, error_details_pb2.RetryInfo):
            retry_after_seconds = detail.retry_delay.ToTimedelta().total_seconds()
        elif isinstance(detail, error_details_pb2.ErrorInfo):
            reason, metadata = detail.reason, dict(detail.metadata)
    return Details(
        violations=tuple(violations), retry_after_seconds=retry_after_seconds, reason=reason, metadata=metadata
    )


_DETAIL_CLASSES: tuple[type[Message], ...] = (
    error_details_pb2.BadRequest,
    error_details_pb2.QuotaFailure,
    error_details_pb2.PreconditionFailure,
    error_details_pb2.RetryInfo,
    error_details_pb2.ErrorInfo,
)


def _unpacked(status: status_pb2.Status) -> Iterator[Message]:
    for packed in status.details:
        for kind in _DETAIL_CLASSES:
            message = kind()
            if packed.Unpack(message):
                yield message
