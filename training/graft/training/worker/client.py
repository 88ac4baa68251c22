"""What a worker says to the server: `graft.client.Client` with the verbs of workers."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import Message

from graft.client import Client
from graft.client.operation import itself, unary
from graft.training.runtime.disk import written
from graft.v1 import adapter_pb2, file_pb2
from graft.v1 import job_pb2 as pb

RESULTS = "fine-tune-results"
LEASE_LOST = "LEASE_LOST"
"""The reason of an error that says so."""
_CHUNK_BYTES = 1 << 20
_DOWNLOAD, _UPLOAD = "/graft.v1.FileService/DownloadFile", "/graft.v1.FileService/UploadFile"
_DOWNLOAD_VERSION = "/graft.v1.AdapterService/DownloadVersion"
TRANSFER_SECONDS = 3600.0


class WorkerClient(Client):
    """Every call may raise `GraftClientError`, with the reason `LEASE_LOST` where the job is not the worker's any more.

    With `job` and `fence` its calls act for the tenant of that job, as long as the worker has it.
    """

    def __init__(self, target: str, *, token: str | None, job: str | None = None, fence: int = 0) -> None:
        """Raises ValueError for a token that is none."""
        super().__init__(target, token=token)
        self._token = token
        if job is not None:
            self._metadata = (*self._metadata, ("graft-job", f"{job}:{fence}"))

    def acting(self, job: str, fence: int) -> WorkerClient:
        """Another client, of that job."""
        return WorkerClient(self.target, token=self._token, job=job, fence=fence)

    def again(self) -> WorkerClient:
        """Another client of the same server, which is closed by itself."""
        return WorkerClient(self.target, token=self._token)

    def claim(self, worker: str, *, request_id: str, wait_seconds: float) -> pb.ClaimJobResponse:
        request = pb.ClaimJobRequest(worker=worker, request_id=request_id)
        request.wait.FromNanoseconds(round(wait_seconds * 1e9))
        return self._call(unary("JobService", request, pb.ClaimJobResponse, itself), wait_seconds + 30.0)

    def heartbeat(self, job: str, fence: int, *, timeout: float) -> pb.JobState.ValueType:
        request = pb.HeartbeatJobRequest(job=job, fence=fence)
        return self._call(unary("JobService", request, pb.HeartbeatJobResponse, itself), timeout).state

    def report(self, request: pb.ReportJobRequest, *, timeout: float) -> pb.JobState.ValueType:
        return self._call(unary("JobService", request, pb.ReportJobResponse, itself), timeout).state

    def complete(self, request: pb.CompleteJobRequest, *, timeout: float) -> pb.Job:
        return self._call(unary("JobService", request, pb.CompleteJobResponse, itself), timeout).job

    def download(self, file: str, target: Path) -> None:
        """A file's bytes; what is there already is compared by digest and kept. Raises `NotWritten`."""
        request = file_pb2.GetFileRequest(file=file)
        known = self._call(unary("FileService", request, file_pb2.GetFileResponse, itself)).file
        if target.is_file() and _digest(target) == known.digest:
            return
        draft = target.with_name(f".{target.name}")
        with written(target, draft=draft, remedy="free the worker's disk"):
            with draft.open("wb") as out:
                parts = self._responses(
                    _DOWNLOAD,
                    file_pb2.DownloadFileRequest(file=file),
                    file_pb2.DownloadFileResponse,
                    TRANSFER_SECONDS,
                )
                for part in parts:
                    out.write(part.data)
            draft.rename(target)

    def download_version(self, adapter: str, digest: str, target: Path) -> None:
        """A version's files, into a folder; one that is there already is whole, and stays. Raises `NotWritten`."""
        if target.is_dir():
            return
        draft = target.with_name(f".{target.name}")
        request = adapter_pb2.DownloadVersionRequest(adapter=adapter, version=digest)
        with written(target, draft=draft, remedy="free the worker's disk"):
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            parts = self._responses(_DOWNLOAD_VERSION, request, adapter_pb2.DownloadVersionResponse, TRANSFER_SECONDS)
            for part in parts:
                if part.HasField("chunk"):
                    with (draft / Path(part.chunk.file).name).open("ab") as out:
                        out.write(part.chunk.data)
            draft.rename(target)

    def upload(self, path: Path, *, request_id: str) -> str:
        """The id of the file that a result is from now on; the same when it is repeated. Raises OSError."""
        header = file_pb2.UploadFileHeader(
            filename=path.name, purpose=RESULTS, sha256=_digest(path).partition(":")[2], request_id=request_id
        )
        answer = self._upload(_UPLOAD, _parts(header, path), file_pb2.UploadFileResponse, TRANSFER_SECONDS)
        return answer.file.id


def _parts(header: file_pb2.UploadFileHeader, path: Path) -> Iterator[Message]:
    yield file_pb2.UploadFileRequest(header=header)
    with path.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            yield file_pb2.UploadFileRequest(data=data)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
