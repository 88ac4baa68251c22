"""The synchronous client's calls of files and jobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Unpack

from graft.client.fine_tuning import file_operation, job_operation, watching
from graft.client.fine_tuning.landing import landing
from graft.client.prompt_calls import PromptCalls
from graft.v1 import file_pb2, job_pb2


class FineTuningCalls(PromptCalls):
    """Files uploaded and read; jobs made, watched and moved."""

    def upload_file(
        self,
        content: file_operation.Content,
        *,
        purpose: str = file_operation.FINE_TUNE,
        filename: str | None = None,
        expires_after_seconds: float | None = None,
        timeout: float | None = None,
    ) -> file_pb2.File:
        """Upload a file by its path, or bytes with a `filename`. Raises OSError where the file cannot be read.

        Without a `timeout` it has the client's, and more as its size needs.
        """
        messages = file_operation.upload_requests(
            content, purpose=purpose, filename=filename, expires_after_seconds=expires_after_seconds
        )
        limit = self._limit_for(file_operation.num_bytes_of(content), timeout)
        return self._upload(file_operation.UPLOAD, messages, file_pb2.UploadFileResponse, limit).file

    def files(self, *, purpose: str = "", oldest_first: bool = False, limit: int | None = None) -> list[file_pb2.File]:
        """All files, or the first `limit`, newest first unless `oldest_first`."""
        return self._pages(lambda token: file_operation.list_files(purpose, oldest_first, token, limit), limit)

    def get_file(self, file: str) -> file_pb2.File:
        """What is known of a file."""
        return self._call(file_operation.get_file(file))

    def stream_file(self, file: str, *, timeout: float | None = None) -> Generator[bytes, None, None]:
        """A file's bytes, part by part. Raises `IncompleteStream` at the end of what is not the whole file."""
        known = self.get_file(file)
        arriving, limit = file_operation.Arriving(known), self._limit_for(known.size_bytes, timeout)
        request = file_pb2.DownloadFileRequest(file=file)
        responses = self._responses(file_operation.DOWNLOAD, request, file_pb2.DownloadFileResponse, limit)
        with contextlib.closing(responses):
            for response in responses:
                yield arriving.take(response)
        arriving.close()

    def file_content(self, file: str, *, timeout: float | None = None) -> bytes:
        """A file's bytes."""
        return b"".join(self.stream_file(file, timeout=timeout))

    def download_file(self, file: str, path: str | Path, *, timeout: float | None = None) -> None:
        """Write a file's bytes to `path`; of a download that fails nothing is left."""
        parts = self.stream_file(file, timeout=timeout)
        with landing(Path(path)) as written, contextlib.closing(parts):
            for data in parts:
                written.write(data)

    def delete_file(self, file: str) -> None:
        """Delete a file that no job uses."""
        self._call(file_operation.delete_file(file))

    def create_job(self, training_file: str, *, model: str, **options: Unpack[job_operation.JobOptions]) -> job_pb2.Job:
        """Make a job that learns from an uploaded file, by its id; `model` is the base, or an adapter to go on from.

        `method` is supervised (the default), dpo, reinforcement or, Graft's own, reward, which makes a reward model;
        hyperparameters and graders are OpenAI's and some of ours.
        """
        return self._call(job_operation.create_job(model, training_file, options))

    def get_job(self, job: str) -> job_pb2.Job:
        """A job as it is now."""
        return self._call(job_operation.get_job(job))

    def jobs(
        self, *, state: str = "", metadata: Mapping[str, str] | None = None, limit: int | None = None
    ) -> list[job_pb2.Job]:
        """All jobs, or the `limit` newest, newest first: those in `state`, with all pairs of `metadata`."""
        return self._pages(lambda token: job_operation.list_jobs(state, metadata or {}, token, limit), limit)

    def job_events(self, job: str, *, limit: int | None = None) -> list[job_pb2.JobEvent]:
        """All events of a job, or the `limit` newest, newest first."""
        return self._pages(lambda token: job_operation.list_events(job, token, limit), limit)

    def job_checkpoints(self, job: str, *, limit: int | None = None) -> list[job_pb2.JobCheckpoint]:
        """All checkpoints of a job, or the `limit` newest, newest first."""
        return self._pages(lambda token: job_operation.list_checkpoints(job, token, limit), limit)

    def watch_job(
        self, job: str, *, after: int = 0, patience_seconds: float = 600.0, on_silence: watching.OnSilence | None = None
    ) -> Generator[job_pb2.JobEvent, None, None]:
        """Events behind the number `after` as they come, each once and in order, until the job has ended.

        After a break it goes on behind the last event; it raises when no server was heard for `patience_seconds`.
        `on_silence` is told of each break, and None when the server is heard again.
        """
        watch = watching.Watch(job, after=after, patience_seconds=patience_seconds, on_silence=on_silence)
        while not watch.is_over:
            try:
                watch.found(self.get_job(job))
                if not watch.is_over:
                    yield from self._watched(watch)
            except watching.BREAKS as error:
                time.sleep(watch.wait_after(error, time.monotonic()))

    def wait_job(self, job: str, *, patience_seconds: float = 600.0) -> job_pb2.Job:
        """The job when it has ended: succeeded, failed or cancelled."""
        for _ in self.watch_job(job, patience_seconds=patience_seconds):
            pass
        return self.get_job(job)

    def cancel_job(self, job: str) -> job_pb2.Job:
        """End a job at once."""
        return self._call(job_operation.cancel_job(job))

    def pause_job(self, job: str) -> job_pb2.Job:
        """Have a job's worker save and stop; one that waits is paused at once."""
        return self._call(job_operation.pause_job(job))

    def resume_job(self, job: str) -> job_pb2.Job:
        """Have a paused job go on."""
        return self._call(job_operation.resume_job(job))

    def _watched(self, watch: watching.Watch) -> Generator[job_pb2.JobEvent, None, None]:
        request = watch.request(time.monotonic())
        responses = self._responses(job_operation.WATCH, request, job_pb2.WatchJobResponse, watching.STREAM_SECONDS)
        with contextlib.closing(responses):
            for response in responses:
                if event := watch.take(response.event):
                    yield event
        watch.ended()

    def _limit_for(self, num_bytes: int, timeout: float | None) -> float:
        return file_operation.seconds_for(num_bytes, timeout=self.timeout) if timeout is None else timeout
