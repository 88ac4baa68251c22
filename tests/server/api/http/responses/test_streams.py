"""Streams of `/v1/responses` that do not end well, on a scripted engine."""

from __future__ import annotations

import json
from typing import Any

from tests.server.api.conftest import Server


async def stream(server: Server) -> list[dict[str, Any]]:
    """The events that came; each under its own name."""
    body = {"model": "tiny", "input": "x", "stream": True}
    events: list[dict[str, Any]] = []
    async with server.http.stream("POST", "/v1/responses", json=body) as response:
        assert response.status_code == 200, await response.aread()
        name = ""
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
                assert events[-1]["type"] == name
    return events


async def test_a_stream_that_breaks_off_fails(server: Server) -> None:
    server.script.break_after = 2
    events = await stream(server)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert events[-1]["response"]["status"] == "failed" and events[-1]["response"]["error"]["message"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_a_complete_stream_says_so(server: Server) -> None:
    events = await stream(server)
    assert events[-1]["type"] == "response.incomplete"  # the script ends for length


async def test_what_fails_before_the_first_event_has_a_status(server: Server) -> None:
    server.script.crash = RuntimeError("secret")
    answer = await server.http.post("/v1/responses", json={"model": "tiny", "input": "x", "stream": True})
    assert answer.status_code == 500 and "secret" not in answer.text
