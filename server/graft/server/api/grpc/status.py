"""A fault as google.rpc.Status with its details (AIP-193)."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from graft.server.api.faults import Fault
from graft.server.errors import Violation

_DOMAIN = "graft"
_RESOURCE_EXHAUSTED = 8
# A status travels in the trailers, of which clients take 8 KiB by default. The message stands there twice, once with
# up to three bytes for each of its own.
_MAX_MESSAGE_BYTES = 800
_MAX_VIOLATION_BYTES = 400
_MAX_VIOLATIONS_BYTES = 3500


def status_of(fault: Fault) -> status_pb2.Status:
    """ErrorInfo always; BadRequest, RetryInfo and QuotaFailure where they say something."""
    code, _ = fault.row.grpc.value
    message = _short(fault.message, _MAX_MESSAGE_BYTES)
    parts: list[Message] = [details.ErrorInfo(reason=fault.row.reason, domain=_DOMAIN)]
    if fault.violations:
        parts.append(_bad_request(fault.violations))
    if fault.retry_after_seconds is not None:
        retry = details.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(fault.retry_after_seconds * 1000))
        parts.append(retry)
    if code == _RESOURCE_EXHAUSTED:
        violation = details.QuotaFailure.Violation(subject="server", description=message)
        parts.append(details.QuotaFailure(violations=[violation]))
    return status_pb2.Status(code=code, message=message, details=[_packed(part) for part in parts])


def _bad_request(violations: Sequence[Violation]) -> details.BadRequest:
    """As many violations as there is room for; the rest are counted."""
    answer = details.BadRequest()
    for number, one in enumerate(violations):
        if answer.ByteSize() > _MAX_VIOLATIONS_BYTES:
            more = f"and {len(violations) - number} more of the kind"
            answer.field_violations.add(field=one.field[:80], description=more)
            break
        field = _short(one.field, _MAX_VIOLATION_BYTES)
        answer.field_violations.add(field=field, description=_short(one.problem, _MAX_VIOLATION_BYTES))
    return answer


def _packed(part: Message) -> Any:
    packed = Any()
    packed.Pack(part)
    return packed


def _short(text: str, max_bytes: int) -> str:
    data = text.encode(errors="replace")
    return text if len(data) <= max_bytes else data[: max_bytes - 3].decode(errors="ignore") + "…"
