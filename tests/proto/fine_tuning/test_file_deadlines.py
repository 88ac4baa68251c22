"""A file's bytes have the time that they need: 512 MiB, which may be uploaded, do not come over in two minutes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from graft.client import AsyncClient, Client
from graft.v1 import file_pb2

LARGE = 64 << 20
SLOW = 1e6
"""Bytes a second, of a connection of 8 Mbit/s."""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(LARGE)
    return path


class Timed:
    """In the place of the wire: which limits of time it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[Any]) -> None:
        self.limits: list[float | None] = []
        file = file_pb2.File(id="file-1", size_bytes=LARGE)

        def uploaded(method: str, messages: object, response: object, timeout: float | None) -> Any:
            self.limits.append(timeout)
            return file_pb2.UploadFileResponse(file=file)

        async def uploaded_async(*arguments: Any) -> Any:
            return uploaded(*arguments)

        def responses(method: str, message: object, response: object, timeout: float | None) -> Iterator[Any]:
            self.limits.append(timeout)
            raise EOFError
            yield

        async def responses_async(*arguments: Any) -> AsyncIterator[Any]:
            for one in responses(*arguments):
                yield one

        async def found(*arguments: Any) -> Any:
            return file

        is_async = kind is AsyncClient
        monkeypatch.setattr(kind, "_upload", staticmethod(uploaded_async if is_async else uploaded))
        monkeypatch.setattr(kind, "_responses", staticmethod(responses_async if is_async else responses))
        monkeypatch.setattr(kind, "get_file", found if is_async else lambda *_: file)


def test_the_blocking_client_waits_for_them(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch, Client)
    with Client("localhost:1", timeout=60.0) as client:
        client.upload_file(large)
        client.upload_file(b"{}", filename="rows.jsonl")
        client.upload_file(large, timeout=5.0)
        with pytest.raises(EOFError):
            client.file_content("file-1")
    whole, small, said, down = timed.limits
    assert whole is not None and whole >= 60.0 + LARGE / SLOW and down == whole
    assert small is not None and 60.0 <= small < 61.0 and said == 5.0


async def test_the_asyncio_client_waits_for_them(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Timed(monkeypatch, AsyncClient)
    async with AsyncClient("localhost:1", timeout=60.0) as client:
        await client.upload_file(large)
        await client.upload_file(large, timeout=5.0)
        with pytest.raises(EOFError):
            await client.file_content("file-1")
    whole, said, down = timed.limits
    assert whole is not None and whole >= 60.0 + LARGE / SLOW and down == whole and said == 5.0
