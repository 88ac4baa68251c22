"""`graft up`: the worker is sent to where the server listens, and what ends is named."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graft.cli import up as module
from graft.cli.commands import up
from graft.cli.failure import CommandFailed, UserError
from tests.running import assert_gone

# As `graft`, by its first argument: a server that tells where it is, a worker that tells what it was told and ends.
STANDIN = """
import json, os, signal, sys, time
from pathlib import Path
part, folder, arguments = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
(folder / f"{part}.json").write_text(json.dumps(arguments))
if part == "worker":
    sys.exit(7)
ready = Path(arguments[arguments.index("--ready-file") + 1])
beside = ready.with_name("beside")
beside.write_text(json.dumps({"grpc_port": 11, "http_port": 12, "pid": os.getpid(), "host": sys.argv[-1]}))
beside.replace(ready)
signal.pause()
"""


def said(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    up.configure(parser)
    return parser.parse_args(arguments)


@pytest.fixture(autouse=True)
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(part: str, *arguments: str) -> list[str]:
        return [sys.executable, "-c", STANDIN, part, str(tmp_path), *arguments]

    monkeypatch.setattr(module, "graft_command", command)


@pytest.mark.parametrize("host", ["10.0.0.5", "localhost", "[fd00::5]"])
def test_the_worker_is_told_where_the_server_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    with pytest.raises(CommandFailed, match="graft worker ended with exit status 7"):
        up.run(said("--", host))
    told = json.loads((tmp_path / "worker.json").read_text())
    assert told[told.index("--server") + 1] == f"{host}:11"
    assert told[told.index("--yield-to") + 1] == f"http://{host}:12/metrics"
    assert capsys.readouterr().out.count(f"{host}:11") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--processes", "0"), "--processes is 0"),
        (("--yield-above", "nan"), "--yield-above is nan"),
        (("--yield-above", "0"), "--yield-above is 0"),
        (("--settings", "none.yaml"), "--settings none.yaml"),
        (("--processes", "-1", "--settings", "none.yaml"), "--processes.*; --settings"),
    ],
)
def test_what_the_worker_would_refuse_is_refused_before_the_server_is_started(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        up.run(said(*arguments, "--", "localhost"))
    assert not (tmp_path / "serve.json").exists()


def test_a_second_signal_ends_nobody_who_has_the_id_of_one_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was waited for has given its id back."""
    killed: list[int] = []
    monkeypatch.setattr(module.os, "killpg", lambda group, number: killed.append(group))
    both = module.Both(said())
    ended, living = (subprocess.Popen([sys.executable, "-c", one]) for one in ("", "import signal; signal.pause()"))
    try:
        ended.wait()
        both._processes = [ended, living]
        with both._signals():
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
        assert killed == [living.pid]
    finally:
        living.kill()
        living.wait()


def test_what_is_started_ends_with_a_parent_that_is_killed() -> None:
    sleeping = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)"]
    code = (
        "import subprocess, time\nfrom graft.cli.server_process import ending_with_this\n"
        f"subprocess.Popen(ending_with_this({sleeping!r}))\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert_gone([child])
