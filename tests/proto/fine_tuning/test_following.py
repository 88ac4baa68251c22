"""What is followed goes on while the server says nothing, and says so where it does not disturb."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest

from graft.cli.fine_tuning import following
from graft.cli.fine_tuning.following import follow
from graft.client.errors import Unavailable
from graft.v1 import job_pb2 as pb

GONE = Unavailable("the server is gone", code=grpc.StatusCode.UNAVAILABLE)


class Server:
    """Tells one event, is gone for a while, and tells the last one when it was asked in vain."""

    def __init__(self) -> None:
        self.is_gone = False
        self.num_refused = 0
        self.refused = threading.Event()
        self.awaited: list[threading.Event] = []
        """Before it is heard again."""

    def get_job(self, job: str) -> pb.Job:
        if self.is_gone:
            self.num_refused += 1
            if self.num_refused > 2:
                self.is_gone = False
            self.refused.set()
            raise GONE
        return pb.Job(id=job, state=pb.JOB_STATE_SUCCEEDED if self.num_refused else pb.JOB_STATE_RUNNING)

    def watch_job(
        self, job: str, on_silence: Callable[[Exception | None], None] | None = None
    ) -> Iterator[pb.JobEvent]:
        yield pb.JobEvent(number=1, state=pb.JOB_STATE_RUNNING, message="begun")
        self.is_gone = True
        assert on_silence is not None
        on_silence(GONE)
        assert all(one.wait(60) for one in self.awaited)
        on_silence(None)
        yield pb.JobEvent(number=2, state=pb.JOB_STATE_SUCCEEDED, message="done")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_LOOK_SECONDS", 0.01)


def test_in_json_silence_is_said_beside_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    job = follow(Server(), "ftjob-1", as_json=True)  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert [json.loads(line)["message"] for line in said.out.splitlines()] == ["begun", "done"]
    assert "no word from the server" in said.err and "heard again" in said.err
    assert job.state == pb.JOB_STATE_SUCCEEDED


def test_the_live_view_outlives_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> int:
            if "no word from the server" in text:
                shown.set()
            return super().write(text)

    shown = threading.Event()
    terminal, server = Terminal(), Server()
    server.awaited = [shown, server.refused]
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    job = follow(server, "ftjob-1", as_json=False)  # type: ignore[arg-type]
    assert job.state == pb.JOB_STATE_SUCCEEDED
    assert "succeeded" in terminal.getvalue()
