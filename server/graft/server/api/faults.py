"""The one table of errors: what a domain error is on gRPC and on HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from graft.adapters import errors as domain
from graft.server import errors as serving
from graft.server.engine import engine
from graft.server.files.file import InvalidFile
from graft.server.residency import policy as residency

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """`reason` is google.rpc.ErrorInfo's; `http_type` and `http_code` are those of OpenAI's error object."""

    error: type[BaseException]
    grpc: grpc.StatusCode
    http: int
    reason: str
    http_type: str
    http_code: str


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
_FAILED = grpc.StatusCode.FAILED_PRECONDITION
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED
_BAD = "invalid_request_error"
_SERVER = "server_error"


# The first row whose class fits is taken: refinements stand before what they refine.
TABLE: tuple[Row, ...] = (
    Row(serving.BadInput, _INVALID, 400, "INVALID_REQUEST", _BAD, "invalid_value"),
    Row(engine.InvalidRequest, _INVALID, 400, "INVALID_REQUEST", _BAD, "invalid_value"),
    Row(serving.TooLarge, _INVALID, 413, "REQUEST_TOO_LARGE", _BAD, "request_too_large"),
    Row(serving.UnsupportedEncoding, _INVALID, 415, "UNSUPPORTED_ENCODING", _BAD, "unsupported_encoding"),
    Row(serving.UnsupportedClaims, _FAILED, 422, "UNSUPPORTED_CLAIMS", _BAD, "unsupported_claims"),
    Row(serving.NoAnswer, _FAILED, 422, "NO_ANSWER", _BAD, "no_answer"),
    Row(domain.InvalidReference, _INVALID, 400, "INVALID_REFERENCE", _BAD, "invalid_model_name"),
    Row(domain.InvalidAdapter, _INVALID, 400, "INVALID_ADAPTER", _BAD, "invalid_adapter"),
    Row(domain.IncompatibleAdapter, _INVALID, 400, "INCOMPATIBLE_ADAPTER", _BAD, "incompatible_adapter"),
    Row(InvalidFile, _INVALID, 400, "INVALID_FILE", _BAD, "invalid_file"),
    Row(domain.InvalidBase, _INVALID, 400, "INVALID_BASE", _BAD, "invalid_base"),
    Row(serving.Forbidden, grpc.StatusCode.PERMISSION_DENIED, 403, "FORBIDDEN", "permission_error", "forbidden"),
    Row(serving.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED, 401, "UNAUTHENTICATED", _BAD, "invalid_api_key"),
    Row(serving.NoSuchResource, grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND", _BAD, "resource_not_found"),
    Row(domain.NotFound, grpc.StatusCode.NOT_FOUND, 404, "NOT_FOUND", _BAD, "model_not_found"),
    Row(domain.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS, 409, "ALREADY_EXISTS", _BAD, "already_exists"),
    Row(serving.LeaseLost, grpc.StatusCode.ABORTED, 409, "LEASE_LOST", _BAD, "lease_lost"),
    Row(domain.Conflict, grpc.StatusCode.ABORTED, 409, "CONFLICT", _BAD, "conflict"),
    Row(engine.LoadFailed, _FAILED, 400, "LOAD_FAILED", _BAD, "adapter_load_failed"),
    Row(serving.ParityFailed, _FAILED, 409, "PARITY_FAILED", _BAD, "parity_failed"),
    Row(serving.Overloaded, _EXHAUSTED, 429, "OVERLOADED", "rate_limit_error", "server_overloaded"),
    Row(serving.QuotaExceeded, _EXHAUSTED, 429, "QUOTA_EXCEEDED", "insufficient_quota", "quota_exceeded"),
    Row(residency.PinRefused, _EXHAUSTED, 429, "PINS_EXHAUSTED", _BAD, "pins_exhausted"),
    Row(serving.SlowReader, _EXHAUSTED, 429, "SLOW_READER", _BAD, "slow_reader"),
    Row(domain.StoreFull, _EXHAUSTED, 429, "STORE_FULL", _SERVER, "store_full"),
    Row(serving.Draining, _UNAVAILABLE, 503, "DRAINING", _SERVER, "server_draining"),
    Row(serving.NotReady, _UNAVAILABLE, 503, "ENGINE_NOT_READY", _SERVER, "engine_not_ready"),
    Row(serving.ParityUnavailable, _UNAVAILABLE, 503, "PARITY_UNAVAILABLE", _SERVER, "parity_unavailable"),
    Row(engine.EngineDied, _UNAVAILABLE, 503, "ENGINE_DIED", _SERVER, "engine_died"),
    Row(domain.StoreUnavailable, _UNAVAILABLE, 503, "STORE_UNAVAILABLE", _SERVER, "store_unavailable"),
    Row(domain.CatalogUnavailable, _UNAVAILABLE, 503, "CATALOG_UNAVAILABLE", _SERVER, "catalog_unavailable"),
    Row(serving.DeadlineExceeded, _LATE, 504, "DEADLINE_EXCEEDED", "timeout_error", "deadline_exceeded"),
    Row(domain.CatalogCorrupt, grpc.StatusCode.DATA_LOSS, 500, "CATALOG_CORRUPT", _SERVER, "catalog_corrupt"),
    Row(engine.EngineError, grpc.StatusCode.INTERNAL, 500, "ENGINE_FAILED", _SERVER, "engine_failed"),
    Row(Exception, grpc.StatusCode.INTERNAL, 500, "INTERNAL", _SERVER, "internal_error"),
)

RETRY_SECONDS = 2.0
_MAX_PARAMS = 32
_INTERNAL = 500


@dataclass(frozen=True, kw_only=True)
class Fault:
    """An error as both fronts show it."""

    row: Row
    message: str
    violations: tuple[serving.Violation, ...] = ()
    retry_after_seconds: float | None = None

    @property
    def param(self) -> str | None:
        """The request's fields that cannot be used, the first of them first."""
        fields = dict.fromkeys(violation.field for violation in self.violations)
        return ", ".join(list(fields)[:_MAX_PARAMS]) or None

    @property
    def outcome(self) -> str:
        """A label from a closed set."""
        return self.row.grpc.name.lower()


def fault_of(error: BaseException) -> Fault:
    """The table's answer. What the table does not know is logged and shown without its text."""
    row = _row_of(error)
    if row is TABLE[-1]:
        _log.error("unexpected error", exc_info=error)
        return Fault(row=row, message="internal error: the server's log has the details")
    return Fault(
        row=row,
        message=str(error) or row.reason.lower().replace("_", " "),
        violations=tuple(_violations(error)),
        retry_after_seconds=_retry_after_seconds(error, row),
    )


def is_servers(error: BaseException) -> bool:
    """Whether the server fails, or the version that it was to serve; not where it goes down, or is not up yet."""
    if isinstance(error, serving.Draining | serving.NotReady):
        return False
    return _row_of(error).http >= _INTERNAL or isinstance(error, engine.LoadFailed | serving.ParityFailed)


def _row_of(error: BaseException) -> Row:
    return next((row for row in TABLE if isinstance(error, row.error)), TABLE[-1])


def _violations(error: BaseException) -> Iterator[serving.Violation]:
    if isinstance(error, serving.BadInput):
        yield from error.violations
    elif isinstance(error, engine.InvalidRequest) and error.field:
        yield serving.Violation(field=error.field, problem=str(error))
    elif isinstance(error, domain.GraftError):
        for reason in error.reasons:
            remedy = f"; {reason.remedy}" if reason.remedy else ""
            yield serving.Violation(field=reason.field, problem=reason.problem + remedy)


def _retry_after_seconds(error: BaseException, row: Row) -> float | None:
    if isinstance(error, serving.Overloaded):
        return error.retry_after_seconds
    return RETRY_SECONDS if row.grpc is grpc.StatusCode.UNAVAILABLE else None
