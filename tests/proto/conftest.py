"""A scripted server and both clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from graft.client import AsyncClient, Client
from tests.proto.scripted_server import Script, serving


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def target(script: Script) -> Iterator[str]:
    with serving(script) as address:
        yield address


@pytest.fixture
def client(target: str) -> Iterator[Client]:
    with Client(target, timeout=10) as client:
        yield client


@pytest.fixture
async def async_client(target: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(target, timeout=10) as client:
        yield client
