"""What a worker says to the server: `graft.client.Client` with the verbs of workers."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from graft.adapters.digest import PREFIX, sha256_of_file
from graft.client import Client
from graft.client.fine_tuning import file_operation
from graft.client.operation import itself, unary
from graft.training.runtime.disk import written
from graft.v1 import adapter_pb2, file_pb2
from graft.v1 import job_pb2 as pb

RESULTS = "fine-tune-results"
LEASE_LOST = "LEASE_LOST"
"""The reason of an error that says so."""
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
        if target.is_file() and self.get_file(file).digest == f"{PREFIX}{sha256_of_file(target)}":
            return
        with written(target, remedy="free the worker's disk"):
            self.download_file(file, target, timeout=TRANSFER_SECONDS)

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
        parts = file_operation.upload_requests(path, purpose=RESULTS, filename=None, expires_after_seconds=None)
        first = next(parts)
        first.header.request_id = request_id
        messages = itertools.chain([first], parts)
        return self._upload(file_operation.UPLOAD, messages, file_pb2.UploadFileResponse, TRANSFER_SECONDS).file.id
