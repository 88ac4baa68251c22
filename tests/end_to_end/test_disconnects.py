"""F8: callers who leave in the middle. The engine stops their work at once and nothing of them stays."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import httpx
import pytest

from graft.client import AsyncClient, Client
from tests.running import Server, children_of

AT_ONCE = 25


def gauge(server: Server, name: str) -> float:
    text = httpx.get(f"{server.http}/metrics").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))


def num_descriptors(server: Server) -> int:
    return sum(
        len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (server.process.pid, *children_of(server.process.pid))
    )


async def leave_early(server: Server, number: int) -> None:
    """Every other one by gRPC and by HTTP: read one piece of a long answer and go."""
    if number % 2:
        async with AsyncClient(server.grpc) as client:
            stream = client.stream("Once upon a time", model="fable", max_tokens=400, ignore_eos=True)
            async for _ in stream:
                break
            await stream.aclose()
        return
    body = {"model": "fable", "prompt": "Once upon a time", "max_tokens": 400, "stream": True, "ignore_eos": True}
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("POST", f"{server.http}/v1/completions", json=body) as response,
    ):
        assert response.status_code == 200
        async for _ in response.aiter_lines():
            break


@pytest.mark.parametrize("num_callers", [50, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_callers_who_leave(server: Server, client: Client, two_versions: str, num_callers: int) -> None:
    before = client.generate("12+35? ", max_tokens=8).text
    await asyncio.gather(*(leave_early(server, number) for number in range(AT_ONCE)))
    await asyncio.to_thread(wait_until_idle, server)
    descriptors = num_descriptors(server)
    for start in range(0, num_callers, AT_ONCE):
        await asyncio.gather(*(leave_early(server, number) for number in range(start, start + AT_ONCE)))
    await asyncio.to_thread(wait_until_idle, server)
    # Connections of either kind close a moment after their last request.
    end = time.monotonic() + 15
    while (left := num_descriptors(server) - descriptors) > 5:
        assert time.monotonic() < end, f"{left} descriptors more than before"
        await asyncio.sleep(0.2)
    assert client.generate("12+35? ", max_tokens=8).text == before


def wait_until_idle(server: Server) -> None:
    """The promise is one second; other tests' machines are slow, so only that it comes is asserted."""
    end = time.monotonic() + 20
    while gauge(server, "vllm:num_requests_running") or gauge(server, "vllm:kv_cache_usage_perc"):
        assert time.monotonic() < end, "the engine still works for callers who have gone"
        time.sleep(0.05)
