"""A job followed to its end: live on a terminal, else line by line."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from graft.cli.fine_tuning.curves import Curves
from graft.cli.fine_tuning.frame import frame
from graft.cli.fine_tuning.texts import event_line, failure_text, state_of
from graft.cli.plots.screen import Screen, is_terminal, style_of

if TYPE_CHECKING:
    from graft.client import Client
    from graft.v1 import job_pb2

_FRAME_SECONDS, _LOOK_SECONDS = 0.1, 2.0
_NUM_KEPT = 20


def follow(client: Client, job: str, *, as_json: bool, wanted: Sequence[str] = ()) -> job_pb2.Job:
    """Show the job until it has ended; gives it back as it is then."""
    if as_json:
        for event in client.watch_job(job):
            print(event_json(event), flush=True)
    elif is_terminal(sys.stdout):
        _live(client, job, wanted)
    else:
        for event in client.watch_job(job, on_silence=Silence(_complain)):
            print(event_line(event), flush=True)
    return client.get_job(job)


def outcome(job: job_pb2.Job) -> str:
    """How it ended, in one line, and what can be done now."""
    state = state_of(job)
    if state == "succeeded":
        made = f": graft chat --model {job.fine_tuned_model}" if job.result.version_digest else ""
        return f"{job.id} has succeeded{made}"
    reason = failure_text(job)
    return f"{job.id} is {state}{f': {reason}' if reason else ''}"


def event_json(event: job_pb2.JobEvent) -> str:
    """One line."""
    from google.protobuf.json_format import MessageToDict

    value = MessageToDict(event, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(value, ensure_ascii=False)


class Silence:
    """Tells `say` when the server falls silent, and, with an empty text, when it is heard again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._is_silent = say, False

    def __call__(self, error: Exception | None) -> None:
        if (error is not None) is not self._is_silent:
            self._is_silent = error is not None
            self._say(f"no word from the server, trying again: {error}" if error else "")


def _complain(text: str) -> None:
    print(text or "the server is heard again", file=sys.stderr, flush=True)


def _live(client: Client, job_id: str, wanted: Sequence[str]) -> None:
    curves = Curves()
    messages: list[job_pb2.JobEvent] = []
    reader = _Reader(client, job_id)
    job, looked = client.get_job(job_id), time.monotonic()
    with Screen(sys.stdout) as screen:
        for events in reader.batches():
            for event in events:
                curves.add(event)
                if not event.is_metrics:
                    messages.append(event)
            del messages[:-_NUM_KEPT]
            if not reader.notice and (reader.is_over or time.monotonic() - looked > _LOOK_SECONDS):
                job, looked = client.get_job(job_id), time.monotonic()
            screen.show(
                frame(
                    job,
                    curves,
                    messages,
                    wanted=wanted,
                    notice=reader.notice,
                    size=screen.size,
                    style=style_of(sys.stdout),
                )
            )


class _Reader:
    """The job's events, from a thread of their own."""

    def __init__(self, client: Client, job: str) -> None:
        self._client, self._job = client, job
        self._queue: queue.SimpleQueue[job_pb2.JobEvent | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self.notice = ""
        """What is to be said beside the events; empty while they come."""
        self.is_over = False

    def batches(self) -> Iterator[list[job_pb2.JobEvent]]:
        """What came within the time of a frame, perhaps nothing. Raises what the watch raises."""
        threading.Thread(target=self._read, name="events", daemon=True).start()
        while not self.is_over:
            yield self._batch()
        if self._error is not None:
            raise self._error

    def _batch(self) -> list[job_pb2.JobEvent]:
        found: list[job_pb2.JobEvent] = []
        end = time.monotonic() + _LOOK_SECONDS
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if event is None:
                self.is_over = True
                break
            if not found:
                end = time.monotonic() + _FRAME_SECONDS
            found.append(event)
        return found

    def _read(self) -> None:
        try:
            for event in self._client.watch_job(self._job, on_silence=Silence(self._say)):
                self._queue.put(event)
        except BaseException as error:
            self._error = error
        self._queue.put(None)

    def _say(self, text: str) -> None:
        self.notice = text
