"""The demo's own parts: what it counts as right, and that it leaves no process behind. The demo itself is run by CI."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import pytest

from graft.cli import server_process
from graft.cli.commands import demo as demo_command
from graft.cli.demo.report import Report
from graft.cli.demo.rows import num_right, read_examples
from graft.cli.demo.variety import DATE_FORMATS, DATES_ISO, DATES_US
from graft.cli.failure import CommandFailed
from graft.cli.server_process import ServerProcess, processes_of_session, run_command


def test_rows_of_every_form_become_questions(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "asked"}, {"role": "assistant", "content": "right"}]
    rows = [
        {"messages": turns},
        {"prompt": "asked", "completion": " right"},
        {"prompt": turns[:1], "completion": turns[1:]},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = read_examples(path)
    assert [example.shown for example in examples] == ["asked"] * 3
    assert [example.turns for example in examples] == [turns[:1]] * 3
    assert num_right(examples, ["right", " right\n", "wrong"]) == 2


def test_the_two_date_formats_are_never_confused() -> None:
    samples = {DATES_ISO: "1962-10-28", DATES_US: "10/28/1962"}
    for variety, pattern in DATE_FORMATS.items():
        assert [own for own, text in samples.items() if pattern.fullmatch(text)] == [variety]


def test_one_broken_claim_fails_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.claim("this holds", "1 of 1", True)
    assert report.summary()
    report.claim("this does not", "0 of 1", False)
    assert not report.summary()
    assert "✗ this does not  0 of 1  ← does not hold" in capsys.readouterr().out


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch):
    """Replaces `graft …` by a Python script."""

    def replace(script: str) -> None:
        monkeypatch.setattr(
            server_process, "graft_command", lambda *arguments: [sys.executable, "-c", script, *arguments]
        )

    return replace


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_server_and_all_that_it_began_end(command, tmp_path: Path) -> None:
    command(
        "import json, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "path = pathlib.Path(sys.argv[sys.argv.index('--ready-file') + 1])\n"
        "path.write_text(json.dumps({'grpc_port': 1, 'http_port': 2, 'pid': child.pid, 'more': 4}))\n"
        "time.sleep(60)\n"
    )
    process = ServerProcess(tmp_path)
    server = process.wait_ready()
    assert (server.target, server.openai_url) == ("127.0.0.1:1", "http://127.0.0.1:2/v1")
    assert process.stop() == [server.pid], "the child outlived its parent: it is reported, and ended"
    assert not Path(f"/proc/{server.pid}").exists() or state_of(server.pid) == "Z"


def test_a_server_of_our_own_has_no_tenants(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts it asks without a token."""
    monkeypatch.setenv("GRAFT_TENANTS_FILE", "tenants.json")
    command("import os, sys; print('GRAFT_TENANTS_FILE' in os.environ); sys.exit(2)")
    process = ServerProcess(tmp_path)
    with pytest.raises(CommandFailed, match=r"False$"):
        process.wait_ready()
    process.stop()


def test_a_server_that_ends_at_once_shows_its_log(command, tmp_path: Path) -> None:
    command("import sys; print('no such base'); sys.exit(2)")
    process = ServerProcess(tmp_path)
    with pytest.raises(CommandFailed, match=r"(?s)exit code 2.*no such base"):
        process.wait_ready()
    assert process.stop() == []


def test_a_failed_command_shows_its_log(command, tmp_path: Path) -> None:
    command("import sys; print('row 7 is broken', file=sys.stderr); sys.exit(2)")
    with pytest.raises(CommandFailed, match=r"(?s)finetune --data x.*exit code 2.*row 7 is broken"):
        run_command(["finetune", "--data", "x"], log=tmp_path / "log")


def test_own_session_is_found() -> None:
    assert os.getpid() in processes_of_session(os.getsid(0))


def test_a_demo_that_fails_keeps_the_log_and_prints_what_matters(
    command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command("print('OSError: libnuma.so.1 is missing'); [print('noise') for _ in range(100)]; raise SystemExit(3)")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("graft.cli.demo.demo.train_all", lambda *_: {})
    with pytest.raises(CommandFailed):
        demo_command.run(argparse.Namespace(keep=None, demo=None))
    (kept,) = tmp_path.glob("graft-demo-*")
    said = capsys.readouterr().err
    assert f"its files are kept in {kept}" in said
    assert "libnuma.so.1 is missing" in said and len(said.splitlines()) < 30
    assert (kept / "server.log").is_file()
