"""A job followed to its end: live on a terminal, else line by line."""

from __future__ import annotations

import contextlib
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
from graft.cli.plots.screen import Screen, style_of
from graft.cli.terminal import is_terminal

if TYPE_CHECKING:
    from graft.client import Client
    from graft.v1 import job_pb2

_FRAME_SECONDS, _LOOK_SECONDS = 0.1, 2.0
_NUM_KEPT = 20
_PATIENCE_SECONDS = 600.0


def follow(client: Client, job: str, *, as_json: bool, wanted: Sequence[str] = ()) -> job_pb2.Job:
    """Show the job until it has ended; gives it back as it is then."""
    if not as_json and is_terminal(sys.stdout):
        return _live(client, job, wanted)
    silence = Silence(_complain)
    for event in client.watch_job(job, on_silence=silence):
        print(json_line(event) if as_json else event_line(event), flush=True)
    return _at_last(client, job, silence)


def outcome(job: job_pb2.Job, events: Sequence[job_pb2.JobEvent]) -> str:
    """How it ended, in one line, and what can be done now. Of the events, the newest first, its gate's is told."""
    from graft.v1 import job_pb2

    state = state_of(job)
    if state == "succeeded" and job.spec.HasField("gate"):
        verdict = next((event.message for event in events if "stage" in event.data), "")
        return f"{job.id} has succeeded as {job.fine_tuned_model}{verdict and f'. {verdict}'}"
    if state == "succeeded":
        made = f": graft chat --model {job.fine_tuned_model}" if job.result.version_digest else ""
        if job.spec.method == job_pb2.JOB_METHOD_REWARD:
            made = f" as {job.fine_tuned_model}, which a grader of the type reward_model names"
        return f"{job.id} has succeeded{made}"
    reason = failure_text(job)
    return f"{job.id} is {state}{f': {reason}' if reason else ''}"


def json_line(message: job_pb2.JobEvent | job_pb2.Job) -> str:
    """One line."""
    from google.protobuf.json_format import MessageToDict

    value = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
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


def _at_last(client: Client, job: str, silence: Silence) -> job_pb2.Job:
    """The job behind its last event. Raises what the call raises when no server is heard for long."""
    from graft.client.fine_tuning.watching import BREAKS, Watch

    watch = Watch(job, after=0, patience_seconds=_PATIENCE_SECONDS, on_silence=silence)
    while True:
        try:
            found = client.get_job(job)
        except BREAKS as error:
            time.sleep(watch.wait_after(error, time.monotonic()))
        else:
            silence(None)
            return found


def _live(client: Client, job_id: str, wanted: Sequence[str]) -> job_pb2.Job:
    curves = Curves()
    messages: list[job_pb2.JobEvent] = []
    reader = _Reader(client, job_id)
    with Screen(sys.stdout) as screen:
        for events in reader.batches():
            for event in events:
                curves.add(event)
                if not event.is_metrics:
                    messages.append(event)
            del messages[:-_NUM_KEPT]
            screen.show(
                frame(
                    reader.job,
                    curves,
                    messages,
                    wanted=wanted,
                    notice=reader.notice,
                    size=screen.size,
                    style=style_of(sys.stdout),
                )
            )
    return reader.job


class _Reader:
    """The job and its events, from threads of their own: a server that says nothing holds up no picture."""

    def __init__(self, client: Client, job: str) -> None:
        from graft.v1 import job_pb2

        self._client = client
        self._queue: queue.SimpleQueue[job_pb2.JobEvent | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._seen = job_pb2.Job(id=job)
        self._last: job_pb2.Job | None = None
        self.notice = ""
        """What is to be said beside the events; empty while they come."""

    @property
    def job(self) -> job_pb2.Job:
        """As it was when the server told it last; of one of which it has told nothing, the id."""
        return self._last or self._seen

    def batches(self) -> Iterator[list[job_pb2.JobEvent]]:
        """What came within the time of a frame, perhaps nothing. Raises what the watch raises."""
        for work in (self._read, self._look):
            threading.Thread(target=work, name="events", daemon=True).start()
        is_over = False
        while not is_over:
            events, is_over = self._batch()
            yield events
        if self._error is not None:
            raise self._error

    def _batch(self) -> tuple[list[job_pb2.JobEvent], bool]:
        found: list[job_pb2.JobEvent] = []
        end = time.monotonic() + _LOOK_SECONDS
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if event is None:
                return found, True
            if not found:
                end = time.monotonic() + _FRAME_SECONDS
            found.append(event)
        return found, False

    def _read(self) -> None:
        silence = Silence(self._say)
        try:
            for event in self._client.watch_job(self._seen.id, on_silence=silence):
                self._queue.put(event)
            self._last = _at_last(self._client, self._seen.id, silence)
        except BaseException as error:
            self._error = error
        self._ended.set()
        self._queue.put(None)

    def _look(self) -> None:
        from graft.client import GraftClientError

        while not self._ended.is_set():
            with contextlib.suppress(GraftClientError):  # the watch says what is wrong
                self._seen = self._client.get_job(self._seen.id)
            self._ended.wait(_LOOK_SECONDS)

    def _say(self, text: str) -> None:
        self.notice = text
