"""`graft files` and `graft jobs`, against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from graft.cli.main import main
from tests.proto.fine_tuning.terminal import displayed
from tests.server.api.conftest import Server
from tests.server.api.fine_tuning.working import ROWS, Worker, reached

Run = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
def run(server: Server, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `graft WORDS`, which ends with the code `ends`; gives what it printed."""

    async def ran(*words: str, ends: int = 0) -> str:
        address = f"127.0.0.1:{server.grpc_port}"
        code = await asyncio.to_thread(main, [*words, "--server", address])
        printed = capsys.readouterr()
        assert code == ends, printed
        return printed.err if ends == 2 else printed.out

    return ran


@pytest.fixture
def rows(tmp_path: Path) -> str:
    (tmp_path / "rows.jsonl").write_bytes(ROWS)
    return str(tmp_path / "rows.jsonl")


async def test_files_by_hand(run: Run, rows: str, tmp_path: Path) -> None:
    assert "graft files upload" in await run("files", "list")
    file = (await run("files", "upload", rows)).split()[0]
    assert file in await run("files", "list") and "fine-tune" in await run("files", "show", file)
    back = tmp_path / "back"
    back.mkdir()
    await run("files", "download", file, str(back))
    assert (back / "rows.jsonl").read_bytes() == ROWS
    assert "say --overwrite" in await run("files", "download", file, str(back), ends=2)
    await run("files", "download", file, str(back), "--overwrite")
    assert json.loads(await run("files", "list", "--json"))[0]["id"] == file
    assert "nothing was deleted" in await run("files", "delete", file, "file-missing", ends=2)
    assert json.loads(await run("files", "list", "--json"))[0]["id"] == file
    await run("files", "delete", file)
    assert "graft files list shows" in await run("files", "show", file, ends=2)
    assert "nothing was uploaded" in await run("files", "upload", rows, "missing.jsonl", ends=2)
    assert await run("files", "list", "--json") == "[]\n"


async def test_a_job_from_rows_to_model(server: Server, run: Run, rows: str) -> None:
    assert "graft jobs create" in await run("jobs", "list")
    said = ["--set", "n_epochs=2", "--suffix", "mine", "--seed", "0", "--metadata", "team=x"]
    job = (await run("jobs", "create", rows, *said)).split()[0]
    following = asyncio.create_task(run("jobs", "watch", job[-6:]))
    worker = Worker(server)
    await worker.claimed()
    for step in (1, 2):
        await worker.report(step)
    done = await worker.succeed()
    lines = (await following).splitlines()
    assert len(lines) == done.num_events + 1 and "step 2  train_loss 1.5" in lines[-3]
    assert done.fine_tuned_model in lines[-1]
    first, *told, last = map(json.loads, (await run("jobs", "watch", job, "--json")).splitlines())
    assert [event["number"] for event in told] == list(range(1, done.num_events + 1))
    assert first["id"] == last["id"] == job and last["fine_tuned_model"] == done.fine_tuned_model
    shown = await run("jobs", "show")
    for words in ("succeeded", "n_epochs 2", "team=x", "seed", done.fine_tuned_model, "train_loss 1.5"):
        assert words in shown
    assert "has no result files" in await run("jobs", "results", job, ends=2)
    assert "mine" in await run("jobs", "list", "--state", "succeeded", "--metadata", "team=x")
    assert await run("jobs", "list", "--metadata", "team=y") == "no such jobs\n"
    logs = (await run("jobs", "logs", job, "--tail", "2")).splitlines()
    assert len(logs) == 2 and logs[-1].endswith("The job has succeeded")
    assert "it has ended" in await run("jobs", "pause", job, ends=2)


async def test_a_job_that_fails_is_a_failure_and_says_why(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"nonsense\n")
    printed = await run("jobs", "create", str(tmp_path / "bad.jsonl"), "--watch", ends=1)
    assert "line 1: is not JSON" in printed.splitlines()[-1] and "failed" in printed.splitlines()[-1]
    lines = (await run("jobs", "create", str(tmp_path / "bad.jsonl"), "--watch", "--json", ends=1)).splitlines()
    first, last = (json.loads(lines[index]) for index in (0, -1))
    assert first["id"] == last["id"] and last["state"] == "JOB_STATE_FAILED" != first["state"]


async def test_a_job_is_paused_resumed_and_cancelled(server: Server, run: Run, rows: str) -> None:
    job = (await run("jobs", "create", rows)).split()[0]
    await reached(server, job, "queued")  # its file is read by then
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert await run("jobs", verb, job) == f"{job} is {state}\n"


async def test_a_terminal_shows_live_curves_and_keeps_the_last_picture(server: Server, run: Run, rows: str) -> None:
    job = (await run("jobs", "create", rows)).split()[0]
    screen, end = pty.openpty()
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "graft.cli.main", "jobs", "watch", job, "--server", f"127.0.0.1:{server.grpc_port}"),
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "COLUMNS": "90", "LINES": "20", "TERM": "xterm"},
    )
    os.close(end)
    worker = Worker(server)
    await worker.claimed()
    written = asyncio.create_task(asyncio.to_thread(_all_of, screen))
    for step in range(1, 6):
        await worker.report(step)
    await worker.succeed()
    async with asyncio.timeout(60):
        code, lines = await watching.wait(), displayed(await written)
    assert code == 0, "\n".join(lines)
    text = "\n".join(lines)
    assert text.count("● train_loss 1.5") == text.count(f"{job} · succeeded") == 1, "one picture, drawn over"
    assert any(re.search("[\u2801-\u28ff]", line) for line in lines) and "Traceback" not in text
    assert lines[-1].startswith(f"{job} has succeeded")


def _all_of(descriptor: int) -> str:
    parts = []
    with os.fdopen(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                parts.append(terminal.read(1 << 16) or b"")
            except OSError:  # Linux: the other end is closed
                return b"".join(parts).decode()


async def test_all_that_is_wrong_is_said_before_anything_is_sent(run: Run, rows: str, tmp_path: Path) -> None:
    (tmp_path / "grader.json").write_text("[]")
    bad = ["--set", "beta", "--metadata", "a=1", "--metadata", "a=2", "--grader", str(tmp_path / "grader.json")]
    said = await run("jobs", "create", "missing.jsonl", *bad, ends=2)
    for words in ("'beta' is no NAME=VALUE", "a is said twice", "holds no JSON object", "missing.jsonl: there is no"):
        assert words in said
    refused = await run("jobs", "create", rows, "--set", "n_epochs=0", "--priority", "101", ends=2)
    assert "n_epochs" in refused and "priority" in refused
    assert "graft adapters list" in await run("jobs", "create", rows, "--model", "nothing", ends=2)
    assert await run("files", "list", "--json") == "[]\n", "of a job that is refused no upload stays"
    for wrong in (["show", "ftjob-x"], ["cancel", "x"], ["list", "--state", "done"], ["compare", "ftjob-x", "ftjob-x"]):
        assert await run("jobs", *wrong, ends=2)


async def test_jobs_side_by_side(server: Server, run: Run, rows: str, tmp_path: Path) -> None:
    jobs = []
    for epochs in ("2", "3"):
        jobs.append(
            (await run("jobs", "create", rows, "--set", f"n_epochs={epochs}", "--suffix", f"e{epochs}")).split()[0]
        )
        worker = Worker(server)
        await worker.claimed()
        for step in range(1, 2 * int(epochs)):
            await worker.report(step)
        await worker.succeed()
    value = json.loads(await run("jobs", "compare", *jobs, "--json"))
    assert value["settings"]["n_epochs"] == [2, 3] and value["metrics"]["train_loss"] == [1.5, 1.5]
    assert "model" not in value["settings"] and len(value["curves"]["train_loss"]["e3"]) == 5
    text = await run("jobs", "compare", *jobs)
    assert "n_epochs" in text and "a e2 1.5" in text and "b e3 1.5" in text
    assert "there are train_loss" in await run("jobs", "compare", *jobs, "--metric", "reward", ends=2)
    pytest.importorskip("matplotlib")
    for name in ("curves.png", "curves.svg"):
        await run("jobs", "compare", *jobs, "--picture", str(tmp_path / name))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "e3" in (tmp_path / "curves.svg").read_text()
    assert "names no picture" in await run("jobs", "compare", *jobs, "--picture", "curves.txt", ends=2)
