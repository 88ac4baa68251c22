"""What is left of a tour that broke off: its chapters, and nothing on the server."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import grpc
import pytest

from graft.cli.main import main
from graft.client import Client, Unavailable
from graft.training.evaluation.asking import connection
from graft.training.tour import tour
from graft.training.tour.chapter import Chapter
from graft.training.tour.claim import share_is
from graft.training.tour.classroom import Classroom, Question
from graft.training.tour.figure import accuracy

MARKS = [[True] * 10, [True] * 10]
CHAPTER = Chapter(
    title="Examples",
    lecture="They help.",
    figures={"shots_0": accuracy(MARKS)},
    claims=(share_is("They do.", MARKS, at_least=50),),
)


class NoServer:
    """It registers programs, runs any, and is told which were left."""

    def __init__(self) -> None:
        self.registered: set[str] = set()
        self.run: list[tuple[str, Any]] = []

    def __enter__(self) -> NoServer:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def info(self) -> Any:
        return SimpleNamespace(base=SimpleNamespace(name="a-base"))

    def push_prompt(self, name: str, program: Any, **_: Any) -> None:
        self.registered.add(name)

    def delete_prompt(self, name: str, **_: Any) -> None:
        self.registered.remove(name)

    def run_prompt(self, name: str, variables: Any, *, program: Any, **_: Any) -> Any:
        assert (name in self.registered) != (program is not None)
        self.run.append((name, program))
        return SimpleNamespace(answer="yes")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> NoServer:
    made = NoServer()
    monkeypatch.setattr(connection, "connected", lambda *_, **__: made)
    return made


def question(**scoring: str) -> Question:
    program = {"prompt": "{{x}}", "output": {"type": "choices", "choices": ["yes", "no"]}}
    return Question(program={**program, "scoring": scoring} if scoring else program, variables={"x": "1"}, right="yes")


def unavailable(room: Classroom) -> NoReturn:
    raise Unavailable("gone", code=grpc.StatusCode.UNAVAILABLE)


def interrupted(room: Classroom) -> NoReturn:
    raise KeyboardInterrupt


def ended(room: Classroom) -> NoReturn:
    """By SIGTERM, while programs stand on the server."""
    room.runs([question(calibration="batch")])
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("SIGTERM was not heeded")


@pytest.mark.parametrize(("fails", "code"), [(unavailable, 1), (interrupted, 130), (ended, 143)])
def test_chapters_that_ended_are_kept(
    fails: Any, code: int, client: NoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tour, "CHAPTERS", {"examples": lambda room: CHAPTER, "votes": fails, "nearest": fails})
    page, figures, before = tmp_path / "t.html", tmp_path / "t.json", signal.getsignal(signal.SIGTERM)
    try:
        got = main(["tour", "prompting", "--server", "x:1", "--html", str(page), "--json", str(figures)])
    except SystemExit as exit_:
        got = cast(int, exit_.code)
    assert got == code
    result = json.loads(figures.read_text())
    assert result["chapters_missing"] == ["votes", "nearest"] and result["shots_0"]["value"] == 100
    assert "The tour broke off: votes, nearest missing." in page.read_text()
    assert not client.registered and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("page", ["/dev/full", "{folder}/t.html"])
def test_one_file_that_cannot_be_written_does_not_keep_the_other(
    page: str, client: NoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tour, "CHAPTERS", {"examples": lambda room: CHAPTER})
    path, figures = Path(page.format(folder=tmp_path)), tmp_path / "t.json"
    (tmp_path / ".t.html").mkdir()
    assert main(["tour", "prompting", "--server", "x:1", "--html", str(path), "--json", str(figures)]) == 2
    assert "t.html" in (told := capsys.readouterr().err) or "/dev/full could not be written" in told
    assert "chapters_missing" not in json.loads(figures.read_text())
    assert not (tmp_path / "t.html").exists(), "not even an empty one"


def test_only_what_is_counted_by_version_is_registered(client: NoServer) -> None:
    with Classroom(cast(Client, client), num_questions=5, seed=0) as room:
        room.runs([question(), question(calibration="content_free")])
        assert not client.registered
        room.runs([question(calibration="batch"), question(calibration="batch"), question()])
        assert len(client.registered) == 1
        room.tidy()
        assert not client.registered
        room.runs([question(calibration="batch")])
        assert len({name for name, program in client.run if program is None}) == 2, "names are not used again"
    assert not client.registered


@pytest.mark.parametrize("arguments", [["tour", "prompting"], ["evaluate", "run", "sums"], ["evaluate", "rootstock"]])
def test_the_server_and_the_token_of_the_environment(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAFT_SERVER", "nowhere")
    main(arguments)
    assert "'nowhere' is no HOST:PORT" in capsys.readouterr().err
    monkeypatch.setenv("GRAFT_TOKEN", "two\nlines")
    main([*arguments, "--server", "127.0.0.1:1"])
    assert "GRAFT_TOKEN" in capsys.readouterr().err


OWN_SERVER = """
import json, signal, sys
from graft.training.tour import server
code = "import json, os, signal, sys; held = open(sys.argv[1], 'w'); print(os.getpid(), file=held, flush=True); "
code += "open(sys.argv[2], 'w').write(json.dumps({'grpc_port': 1})); signal.pause()"
server._command = lambda flags: [sys.executable, "-c", code, sys.argv[1], flags[flags.index("--ready-file") + 1]]
with server.served():
    signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell a child")
def test_the_tours_own_server_ends_with_a_killed_tour(tmp_path: Path) -> None:
    """It holds a pipe open, which is at its end once it has ended."""
    pipe = tmp_path / "held"
    os.mkfifo(pipe)
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with (
        os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as held,  # also where nobody comes to write into it
        subprocess.Popen([sys.executable, "-c", OWN_SERVER, str(pipe)], env=environment) as killed,
    ):
        began, _, _ = select.select([held], [], [], 60)
        server = int(held.readline() or 0)
        killed.kill()
        assert began and server
        ended, _, _ = select.select([held], [], [], 60)
        if not ended:
            os.kill(server, signal.SIGKILL)
        assert ended and held.read() == ""
