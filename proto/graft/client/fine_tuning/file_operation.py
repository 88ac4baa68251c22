"""The calls of `FileService`, said once for both clients."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from google.protobuf.message import Message

from graft.client.errors import IncompleteStream
from graft.client.operation import Operation, new_request_id, nothing, page_size, unary
from graft.client.upload import CHUNK_BYTES
from graft.v1 import file_pb2 as pb

UPLOAD = "/graft.v1.FileService/UploadFile"
DOWNLOAD = "/graft.v1.FileService/DownloadFile"
FINE_TUNE = "fine-tune"
_SLOWEST_BYTES_PER_SECOND = 0.5e6

Content = str | Path | bytes
"""The path of a file, or bytes."""
Out = TypeVar("Out")
Response = TypeVar("Response", bound=Message)


def _file(request: Message, response: type[Response], read: Callable[[Response], Out]) -> Operation[Out]:
    return unary("FileService", request, response, read)


def upload_requests(
    content: Content, *, purpose: str, filename: str | None, expires_after_seconds: float | None
) -> Iterator[pb.UploadFileRequest]:
    """The header with the SHA-256, then the bytes in chunks of 1 MiB.

    Raises at once: OSError where the file cannot be read, ValueError for bytes without a file's name.
    """
    if isinstance(content, bytes):
        if not filename:
            raise ValueError("bytes have no name: say filename, such as rows.jsonl")
        sha256 = hashlib.sha256(content).hexdigest()
    else:
        content = Path(content)
        filename = filename or content.name
        with content.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    header = pb.UploadFileHeader(filename=filename, purpose=purpose, sha256=sha256, request_id=new_request_id())
    if expires_after_seconds is not None:
        header.expires_after.FromNanoseconds(round(expires_after_seconds * 1e9))
    return _messages(header, content)


def _messages(header: pb.UploadFileHeader, content: Path | bytes) -> Iterator[pb.UploadFileRequest]:
    yield pb.UploadFileRequest(header=header)
    for data in _chunks(content):
        yield pb.UploadFileRequest(data=data)


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        for begin in range(0, len(content), CHUNK_BYTES):
            yield content[begin : begin + CHUNK_BYTES]
        return
    with content.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def get_file(file: str) -> Operation[pb.File]:
    return _file(pb.GetFileRequest(file=file), pb.GetFileResponse, lambda response: response.file)


def list_files(
    purpose: str, oldest_first: bool, page_token: str, limit: int | None
) -> Operation[tuple[list[pb.File], str]]:
    return _file(
        pb.ListFilesRequest(
            purpose=purpose, oldest_first=oldest_first, page_token=page_token, page_size=page_size(limit)
        ),
        pb.ListFilesResponse,
        lambda response: (list(response.files), response.next_page_token),
    )


def delete_file(file: str) -> Operation[None]:
    return _file(pb.DeleteFileRequest(file=file, request_id=new_request_id()), pb.DeleteFileResponse, nothing)


def seconds_for(num_bytes: int, *, timeout: float) -> float:
    """How long a file's bytes may take, where a call may take `timeout`: so much more as a slow line needs."""
    return timeout + num_bytes / _SLOWEST_BYTES_PER_SECOND


def num_bytes_of(content: Content) -> int:
    """Raises OSError."""
    return len(content) if isinstance(content, bytes) else Path(content).stat().st_size


class Arriving:
    """A file's bytes while they come: counted and hashed, and compared with what was promised."""

    def __init__(self, file: pb.File) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._num_bytes = 0

    def take(self, response: pb.DownloadFileResponse) -> bytes:
        """The bytes of one message."""
        self._hash.update(response.data)
        self._num_bytes += len(response.data)
        return response.data

    def close(self) -> None:
        """Raises `IncompleteStream` where what came is not the file."""
        file = self._file
        if self._num_bytes != file.size_bytes:
            raise IncompleteStream(f"{self._num_bytes} of the {file.size_bytes} bytes of {file.id} came")
        if f"sha256:{self._hash.hexdigest()}" != file.digest:
            raise IncompleteStream(f"what came of {file.id} has the digest sha256:{self._hash.hexdigest()}")
