"""A fault as OpenAI's error object."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from graft.server.api.faults import Fault
from graft.server.api.http.body import JsonResponse


def error_body(fault: Fault) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`."""
    return error_object(message=fault.message, kind=fault.row.http_type, param=fault.param, code=fault.row.http_code)


def error_object(*, message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_response(fault: Fault) -> JsonResponse:
    headers = {}
    if fault.retry_after_seconds is not None:
        # RFC 9110 knows whole seconds only; openai's clients read the finer header first.
        headers["retry-after"] = str(max(1, math.ceil(fault.retry_after_seconds)))
        headers["retry-after-ms"] = str(max(1, math.ceil(fault.retry_after_seconds * 1000)))
    if fault.row.http == HTTPStatus.CONFLICT:
        # To openai's clients 409 is a lock that somebody holds for a moment, and they ask again. Here it stays so.
        headers["x-should-retry"] = "false"
    if fault.row.http == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"  # RFC 6750, section 3
    if fault.row.http == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["accept-encoding"] = "identity"  # RFC 9110, 12.5.3: what would have been read
    return JsonResponse(error_body(fault), status_code=fault.row.http, headers=headers)
