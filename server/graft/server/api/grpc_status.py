"""A fault as google.rpc.Status with its details (AIP-193)."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from graft.server.api.faults import Fault

_DOMAIN = "graft"
_RESOURCE_EXHAUSTED = 8
# A status travels in the trailers, which have a size limit of their own.
_MAX_MESSAGE_CHARACTERS = 2000
_MAX_VIOLATIONS = 32


def status_of(fault: Fault) -> status_pb2.Status:
    """ErrorInfo always; BadRequest, RetryInfo and QuotaFailure where they say something."""
    code, _ = fault.row.grpc.value
    parts: list[Message] = [details.ErrorInfo(reason=fault.row.reason, domain=_DOMAIN)]
    if fault.violations:
        parts.append(
            details.BadRequest(
                field_violations=[
                    details.BadRequest.FieldViolation(field=one.field, description=_short(one.problem))
                    for one in fault.violations[:_MAX_VIOLATIONS]
                ]
            )
        )
    if fault.retry_after_seconds is not None:
        retry = details.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(fault.retry_after_seconds * 1000))
        parts.append(retry)
    if code == _RESOURCE_EXHAUSTED:
        violation = details.QuotaFailure.Violation(subject="server", description=_short(fault.message))
        parts.append(details.QuotaFailure(violations=[violation]))
    return status_pb2.Status(code=code, message=_short(fault.message), details=[_packed(part) for part in parts])


def _packed(part: Message) -> Any:
    packed = Any()
    packed.Pack(part)
    return packed


def _short(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARACTERS else text[: _MAX_MESSAGE_CHARACTERS - 1] + "…"
