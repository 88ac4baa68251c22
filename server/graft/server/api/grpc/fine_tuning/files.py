"""`FileService`: each call is one verb of `Files`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from graft.adapters.catalog.paging import page_limit, read_token, write_token
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import headed, request_id_of
from graft.server.errors import BadInput, Violation
from graft.server.files.draft import read_draft, read_purpose
from graft.server.files.file import File
from graft.server.files.files import Files
from graft.server.files.reads import Listing
from graft.server.runtime.tenant import acting_job, current_tenant
from graft.v1 import file_pb2 as pb
from graft.v1 import file_pb2_grpc

_CHUNK_BYTES = 1 << 20


class FileServicer(file_pb2_grpc.FileServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: Context
    ) -> pb.UploadFileResponse:
        first, parts = await headed(request_iterator)
        header = first.header
        draft = read_draft(
            purpose=header.purpose,
            filename=header.filename,
            expires_after_seconds=header.expires_after.seconds if header.HasField("expires_after") else None,
            of_job=acting_job() is not None,
        )
        file = await self._files.upload(
            draft,
            _bytes(parts),
            tenant=current_tenant(),
            sha256=header.sha256 or None,
            request_id=request_id_of(header),
        )
        return pb.UploadFileResponse(file=file_message(file))

    async def GetFile(self, request: pb.GetFileRequest, context: Context) -> pb.GetFileResponse:
        return pb.GetFileResponse(file=file_message(await self._files.get(current_tenant(), request.file)))

    async def ListFiles(self, request: pb.ListFilesRequest, context: Context) -> pb.ListFilesResponse:
        tenant, purpose = current_tenant(), read_purpose(request.purpose)
        scope = ("files", tenant, request.purpose, str(request.oldest_first))
        listing = Listing(
            limit=page_limit(request.page_size),
            after=read_token(scope, request.page_token, str),
            newest_first=not request.oldest_first,
            purpose=purpose,
        )
        found, has_more = await self._files.listed(tenant, listing)
        token = write_token(scope, found[-1].id) if has_more else ""
        return pb.ListFilesResponse(files=map(file_message, found), next_page_token=token)

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: Context
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        _, content = await self._files.open(current_tenant(), request.file)
        with content:
            while data := await asyncio.to_thread(content.read, _CHUNK_BYTES):
                yield pb.DownloadFileResponse(data=data)

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: Context) -> pb.DeleteFileResponse:
        await self._files.delete(current_tenant(), request.file, request_id=request_id_of(request))
        return pb.DeleteFileResponse()


def file_message(file: File) -> pb.File:
    message = pb.File(
        name=f"files/{file.id}",
        id=file.id,
        purpose=file.purpose,
        filename=file.filename,
        size_bytes=file.size_bytes,
        digest=file.digest,
    )
    message.create_time.FromDatetime(file.create_time)
    if file.expire_time is not None:
        message.expire_time.FromDatetime(file.expire_time)
    return message


async def _bytes(parts: AsyncIterator[pb.UploadFileRequest]) -> AsyncIterator[bytes]:
    async for part in parts:
        if part.WhichOneof("part") != "data":
            raise BadInput(
                Violation(field="data", problem="is missing: after the header, every message of an upload has data")
            )
        yield part.data
