"""The harness itself: what it must see."""

from __future__ import annotations

import pytest

from tests.cases.harness.command import CommandCase, Commands
from tests.cases.harness.wire import HttpCase, check_http
from tests.running import Server


def test_a_command_runs_in_its_own_folder(commands: Commands) -> None:
    case = CommandCase(
        id="a mistake",
        argv=["finetune", "--data", "{folder}/rows.jsonl", "--name", "x"],
        says=["rows.jsonl"],
        then=lambda folder: not list(folder.iterdir()) or pytest.fail("something was left"),
    )
    commands.check(case)


@pytest.mark.parametrize("argv", [["--version"], ["finetune", "--help"]])
def test_success_is_code_0(commands: Commands, argv: list[str]) -> None:
    assert commands.check(CommandCase(id="help", argv=argv, code=0)).out


def test_another_code_or_word_is_seen(commands: Commands) -> None:
    for case in (
        CommandCase(id="code", argv=["--version"], code=2),
        CommandCase(id="word", argv=["--version"], code=0, says=["no such word"]),
        CommandCase(id="silence", argv=["--version"], code=0, silent=["graft"]),
    ):
        with pytest.raises(AssertionError):
            commands.check(case)


def test_a_command_that_does_not_end_is_killed(commands: Commands) -> None:
    outcome = commands.run("corpus", "documents", "--rows", 10**9, "--output", "x.jsonl", seconds=1.0)
    assert outcome.code is None


def test_a_file_that_may_not_grow_is_a_full_disk(commands: Commands) -> None:
    outcome = commands.run("corpus", "documents", "--rows", 2000, "--output", "x.jsonl", max_file_bytes=4096)
    assert outcome.code == 2, outcome.said
    assert "Traceback" not in outcome.said


def test_a_request_and_its_reply(server: Server) -> None:
    check_http(HttpCase(id="plain", body={"prompt": "12+39?"}, says=["completion_tokens"]), server)
    refused = HttpCase(id="refused", body={"prompt": "a", "max_tokens": -1}, status=400, param="max_tokens")
    check_http(refused, server)
    with pytest.raises(AssertionError):
        check_http(HttpCase(id="status", body={"prompt": "a"}, status=400), server)
