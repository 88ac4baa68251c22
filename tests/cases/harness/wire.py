"""A case over HTTP: one request to the session's server, and what has to come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.cases.harness.words import faults_of
from tests.running import Server

_MAX_MESSAGE = 1000


@dataclass(frozen=True, kw_only=True)
class HttpCase:
    """`body` is sent as JSON, or as it is where it is bytes; the model is the base unless the body names one.

    Every refusal is checked for the shape of OpenAI's errors, with no internals in its words; `param` and `says` are
    what this one names.
    """

    id: str
    body: Mapping[str, Any] | bytes
    path: str = "/v1/completions"
    method: str = "POST"
    status: int = 200
    param: str | None = None
    code: str | None = None
    says: Sequence[str] = ()
    silent: Sequence[str] = ()
    check: Callable[[Any], object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.id


def check_http(case: HttpCase, server: Server) -> httpx.Response:
    """Send one case and compare."""
    body = case.body
    if not isinstance(body, bytes):
        body = httpx.Request("POST", "http://x", json={"model": "base", "max_tokens": 4, **body}).content
    headers = {"content-type": "application/json", **case.headers}
    reply = httpx.request(case.method, server.http + case.path, content=body, headers=headers, timeout=60)
    assert reply.status_code == case.status, f"{reply.status_code}, not {case.status}: {reply.text[:2000]}"
    if case.status >= 400:
        _check_refusal(case, reply.json()["error"])
    for text in case.says:
        assert text in reply.text, f"{text!r} is not in the reply: {reply.text[:2000]}"
    for text in case.silent:
        assert text not in reply.text, f"{text!r} is in the reply: {reply.text[:2000]}"
    if case.check is not None:
        case.check(reply.json())
    return reply


def _check_refusal(case: HttpCase, error: Mapping[str, Any]) -> None:
    message = error["message"]
    assert message and len(message) <= _MAX_MESSAGE, message
    assert not faults_of(message), (faults_of(message), message)
    if case.param is not None:
        assert error["param"] == case.param, error
    if case.code is not None:
        assert error["code"] == case.code, error
