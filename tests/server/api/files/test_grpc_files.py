"""`FileService`: the same files as over HTTP."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from graft.v1 import file_pb2 as pb
from graft.v1 import file_pb2_grpc
from tests.server.api.conftest import Server

ROWS = b'{"messages": []}\n'


def stub(server: Server) -> file_pb2_grpc.FileServiceAsyncStub:
    return file_pb2_grpc.FileServiceStub(server.channel)


async def messages(*data: bytes, **header: Any) -> AsyncIterator[pb.UploadFileRequest]:
    header = {"filename": "a.jsonl", "purpose": "fine-tune", **header}
    yield pb.UploadFileRequest(header=pb.UploadFileHeader(**header))
    for one in data:
        yield pb.UploadFileRequest(data=one)


async def uploaded(server: Server, *data: bytes, **header: Any) -> pb.File:
    return (await stub(server).UploadFile(messages(*data, **header))).file


async def downloaded(server: Server, file: str) -> bytes:
    return b"".join([part.data async for part in stub(server).DownloadFile(pb.DownloadFileRequest(file=file))])


async def test_one_file_on_both_fronts(server: Server) -> None:
    file = await uploaded(server, ROWS, ROWS, sha256=hashlib.sha256(ROWS * 2).hexdigest())
    assert file.name == f"files/{file.id}" and file.size_bytes == 2 * len(ROWS) and not file.HasField("expire_time")
    assert file.digest == f"sha256:{hashlib.sha256(ROWS * 2).hexdigest()}"
    assert await downloaded(server, file.id) == ROWS * 2
    assert (await server.openai.files.content(file.id)).read() == ROWS * 2
    assert (await stub(server).GetFile(pb.GetFileRequest(file=file.id))).file == file
    assert (await server.openai.files.retrieve(file.id)).created_at == file.create_time.seconds
    await stub(server).DeleteFile(pb.DeleteFileRequest(file=file.id))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await downloaded(server, file.id)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_bytes_that_are_not_those_declared_are_refused(server: Server) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="declared was") as caught:
        await uploaded(server, ROWS, sha256="0" * 64)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    listed = await stub(server).ListFiles(pb.ListFilesRequest())
    assert list(listed.files) == []


async def test_a_repeated_upload_is_the_first_ones_file(server: Server) -> None:
    first = await uploaded(server, ROWS, request_id="r1")
    assert await uploaded(server, ROWS, request_id="r1") == first
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await uploaded(server, b"other", request_id="r1")
    assert caught.value.code() is grpc.StatusCode.ABORTED


async def test_pages(server: Server) -> None:
    made = [(await uploaded(server, b"%d" % one)).id for one in range(5)]
    seen, token = [], ""
    while True:
        page = await stub(server).ListFiles(pb.ListFilesRequest(page_size=2, page_token=token, oldest_first=True))
        seen += [one.id for one in page.files]
        token = page.next_page_token
        if not token:
            break
    assert seen == made
    page = await stub(server).ListFiles(pb.ListFilesRequest(page_size=2))
    with pytest.raises(grpc.aio.AioRpcError, match="begin again"):
        await stub(server).ListFiles(pb.ListFilesRequest(page_token=page.next_page_token, purpose="evals"))


async def test_an_upload_without_header_or_bytes_is_refused(server: Server) -> None:
    async def headless() -> AsyncIterator[pb.UploadFileRequest]:
        yield pb.UploadFileRequest(data=b"x")

    for request in (headless(), messages(), messages(b"", b""), messages(purpose="x", filename="")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub(server).UploadFile(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
