"""`graft prompts`: a program's own tests, of which one without an answer is one that does not hold."""

from __future__ import annotations

import argparse
import json
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from graft.cli.commands.prompts import HELP, configure
from graft.cli.failure import CommandFailed
from graft.cli.prompt_runs import test_prompt as run_tests
from graft.client import Client, Conflict, NoAnswer


class ScriptedClient:
    """Its program echoes `q`; where that is `mumble`, the server finds no answer."""

    def __init__(self, *tests: dict[str, Any]) -> None:
        self.program = json.dumps({"tests": tests})

    def get_prompt(self, name: str, selector: str) -> SimpleNamespace:
        return SimpleNamespace(program=self.program)

    def run_prompt(self, reference: str, variables: dict[str, Any], model: str = "") -> SimpleNamespace:
        if variables["q"] == "mumble":
            raise NoAnswer("there is no number in it", code=grpc.StatusCode.FAILED_PRECONDITION)
        if variables["q"] == "gone":
            raise Conflict("the adapter is in use", code=grpc.StatusCode.FAILED_PRECONDITION)
        return SimpleNamespace(answer=variables["q"])


def ran(*tests: dict[str, Any]) -> tuple[object, str]:
    client = cast(Client, ScriptedClient(*tests))
    return run_tests(client, argparse.Namespace(prompt="sums", model="", output="json"))


def test_a_test_without_an_answer_fails_and_the_others_are_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailed, match="1 of 3 tests of sums do not hold"):
        ran(*({"variables": {"q": q}, "equals": q} for q in ("1", "mumble", "2")))
    rows = json.loads(capsys.readouterr().out)
    assert [row["passed"] for row in rows] == [True, False, True]
    assert rows[1]["problems"] == ["no answer: there is no number in it"]


def test_any_other_conflict_ends_the_tests() -> None:
    with pytest.raises(Conflict, match="in use"):
        ran({"variables": {"q": "gone"}, "equals": "gone"})


def test_the_help_names_the_verbs() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    (verbs,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    named = HELP.removesuffix(" prompt programs").replace(" and ", ", ").split(", ")
    assert named == list(verbs.choices)
