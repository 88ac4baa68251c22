"""``graft evaluate``'s own words: what is said before any server is asked."""

from __future__ import annotations

import errno
import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.training.commands import evaluate_tasks
from tests.training.evaluation.scripted import ScriptedModel

FILES = Path(__file__).parent / "importing" / "files"


def test_tasks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "tasks", "--output", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"nli", "sums", "word-in-context"} <= {row["task"] for row in rows}
    assert all(row["num_questions"] == 200 for row in rows)


def test_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "capitals.task.json"
    programs = tmp_path / "programs"
    command = ["evaluate", "import", str(FILES / "promptfooconfig.yaml"), "--to", str(to), "--programs", str(programs)]
    assert main([*command, "--output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_questions"] == 20 and "llm-rubric" in told["checks"] and len(told["programs"]) == 5
    assert main(command) == 0
    assert f"graft prompts push {programs}/promptfooconfig-1.json --name promptfooconfig-1" in capsys.readouterr().out
    run = ["evaluate", "import", str(FILES / "tickets.json"), "--run", str(FILES / "tickets_run.json")]
    assert main([*run, "--to", str(tmp_path / "tickets")]) == 0
    assert (tmp_path / "tickets.task.json").exists()


def test_figures_are_told_before_a_report_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "2+2=", "completion": "4"}\n')
    monkeypatch.setattr(evaluate_tasks, "_connected", nullcontext)
    monkeypatch.setattr(evaluate_tasks, "_model", lambda client, name: ScriptedModel(say_=lambda *_: "4", name=name))

    def full(path: Path, text: str, encoding: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    report = tmp_path / "report"
    assert main(["evaluate", "run", str(tmp_path / "rows.jsonl"), "--report", str(report)]) == 2
    told = capsys.readouterr()
    assert (
        "100.0 %" in told.out and f"{report / 'summary.json'} could not be written: No space left on device" in told.err
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "nothing"], "there is no task or file 'nothing'; tasks that come with Graft: choice-questions"),
        (["run", "nli", "--server", "x"], "--server 'x' is no HOST:PORT"),
        (["run", "nli", "nli"], "two tasks are called nli"),
        (["run", "nli", "--data", "x.jsonl"], "--run and --data belong to an OpenAI eval"),
        (["import", "nothing.yaml"], "there is no file nothing.yaml"),
        (["gate", "--baseline", "base", "--candidate", "a", "--task", "nothing"], "there is no task or file"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and "Traceback" not in error and len(error.splitlines()) == 1


@pytest.mark.parametrize(
    "flag", [["--votes", "0"], ["--votes", "65"], ["--shots", "a"], ["--reasoning", "x"], ["--limit", "0"]]
)
def test_flags_are_checked(flag: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", "run", "nli", *flag])
    assert exit_.value.code == 2 and flag[0] in capsys.readouterr().err
