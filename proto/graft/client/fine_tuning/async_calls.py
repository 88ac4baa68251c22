"""The asyncio client's calls of files and jobs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Unpack

from graft.client.async_prompt_calls import AsyncPromptCalls
from graft.client.fine_tuning import file_operation, job_operation, watching
from graft.client.fine_tuning.landing import landing
from graft.v1 import file_pb2, job_pb2


class AsyncFineTuningCalls(AsyncPromptCalls):
    """Files uploaded and read; jobs made, watched and moved."""

    async def upload_file(
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
        messages = await asyncio.to_thread(
            file_operation.upload_requests,
            content,
            purpose=purpose,
            filename=filename,
            expires_after_seconds=expires_after_seconds,
        )
        limit = self._limit_for(file_operation.num_bytes_of(content), timeout)
        return (await self._upload(file_operation.UPLOAD, messages, file_pb2.UploadFileResponse, limit)).file

    async def files(
        self, *, purpose: str = "", oldest_first: bool = False, limit: int | None = None
    ) -> list[file_pb2.File]:
        """All files, or the first `limit`, newest first unless `oldest_first`."""
        return await self._pages(lambda token: file_operation.list_files(purpose, oldest_first, token, limit), limit)

    async def get_file(self, file: str) -> file_pb2.File:
        """What is known of a file."""
        return await self._call(file_operation.get_file(file))

    async def stream_file(self, file: str, *, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """A file's bytes, part by part. Raises `IncompleteStream` at the end of what is not the whole file."""
        known = await self.get_file(file)
        arriving, limit = file_operation.Arriving(known), self._limit_for(known.size_bytes, timeout)
        request = file_pb2.DownloadFileRequest(file=file)
        responses = self._responses(file_operation.DOWNLOAD, request, file_pb2.DownloadFileResponse, limit)
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield arriving.take(response)
        arriving.close()

    async def file_content(self, file: str, *, timeout: float | None = None) -> bytes:
        """A file's bytes."""
        return b"".join([data async for data in self.stream_file(file, timeout=timeout)])

    async def download_file(self, file: str, path: str | Path, *, timeout: float | None = None) -> None:
        """Write a file's bytes to `path`; of a download that fails nothing is left."""
        parts = self.stream_file(file, timeout=timeout)
        with landing(Path(path)) as written:
            async with contextlib.aclosing(parts):
                async for data in parts:
                    await asyncio.to_thread(written.write, data)

    async def delete_file(self, file: str) -> None:
        """Delete a file that no job uses."""
        await self._call(file_operation.delete_file(file))

    async def create_job(
        self, training_file: str, *, model: str, **options: Unpack[job_operation.JobOptions]
    ) -> job_pb2.Job:
        """Make a job that learns from an uploaded file, by its id; `model` is the base, or an adapter to go on from.

        `method` is supervised (the default), dpo, reinforcement or, Graft's own, reward, which makes a reward model;
        hyperparameters and graders are OpenAI's and some of ours.
        """
        return await self._call(job_operation.create_job(model, training_file, options))

    async def get_job(self, job: str) -> job_pb2.Job:
        """A job as it is now."""
        return await self._call(job_operation.get_job(job))

    async def jobs(
        self, *, state: str = "", metadata: Mapping[str, str] | None = None, limit: int | None = None
    ) -> list[job_pb2.Job]:
        """All jobs, or the `limit` newest, newest first: those in `state`, with all pairs of `metadata`."""
        return await self._pages(lambda token: job_operation.list_jobs(state, metadata or {}, token, limit), limit)

    async def job_events(self, job: str, *, limit: int | None = None) -> list[job_pb2.JobEvent]:
        """All events of a job, or the `limit` newest, newest first."""
        return await self._pages(lambda token: job_operation.list_events(job, token, limit), limit)

    async def job_checkpoints(self, job: str, *, limit: int | None = None) -> list[job_pb2.JobCheckpoint]:
        """All checkpoints of a job, or the `limit` newest, newest first."""
        return await self._pages(lambda token: job_operation.list_checkpoints(job, token, limit), limit)

    async def watch_job(
        self, job: str, *, after: int = 0, patience_seconds: float = 600.0, on_silence: watching.OnSilence | None = None
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Events behind the number `after` as they come, each once and in order, until the job has ended.

        After a break it goes on behind the last event; it raises when no server was heard for `patience_seconds`.
        `on_silence` is told of each break, and None when the server is heard again.
        """
        watch = watching.Watch(job, after=after, patience_seconds=patience_seconds, on_silence=on_silence)
        while not watch.is_over:
            try:
                watch.found(await self.get_job(job))
                if not watch.is_over:
                    async with contextlib.aclosing(self._watched(watch)) as events:
                        async for event in events:
                            yield event
            except watching.BREAKS as error:
                await asyncio.sleep(watch.wait_after(error, time.monotonic()))

    async def wait_job(self, job: str, *, patience_seconds: float = 600.0) -> job_pb2.Job:
        """The job when it has ended: succeeded, failed or cancelled."""
        async for _ in self.watch_job(job, patience_seconds=patience_seconds):
            pass
        return await self.get_job(job)

    async def cancel_job(self, job: str) -> job_pb2.Job:
        """End a job at once."""
        return await self._call(job_operation.cancel_job(job))

    async def pause_job(self, job: str) -> job_pb2.Job:
        """Have a job's worker save and stop; one that waits is paused at once."""
        return await self._call(job_operation.pause_job(job))

    async def resume_job(self, job: str) -> job_pb2.Job:
        """Have a paused job go on."""
        return await self._call(job_operation.resume_job(job))

    async def _watched(self, watch: watching.Watch) -> AsyncGenerator[job_pb2.JobEvent, None]:
        request = watch.request(time.monotonic())
        responses = self._responses(job_operation.WATCH, request, job_pb2.WatchJobResponse, watching.STREAM_SECONDS)
        async with contextlib.aclosing(responses):
            async for response in responses:
                if event := watch.take(response.event):
                    yield event
        watch.ended()

    def _limit_for(self, num_bytes: int, timeout: float | None) -> float:
        return file_operation.seconds_for(num_bytes, timeout=self.timeout) if timeout is None else timeout
