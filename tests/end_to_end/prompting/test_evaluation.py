"""``graft evaluate`` against a real server: ready tasks, public data, other tools' files, and a gate."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from graft.cli.main import main
from graft.client import Client
from tests.running import Server, start_server, stop_server

DATES = [("2014-06-01", "06/01/2014"), ("1999-12-24", "12/24/1999"), ("1960-02-29", "02/29/1960")]
FILES = Path(__file__).parents[2] / "training" / "evaluation" / "importing" / "files"
PUBLIC = (
    "gpt3-tasks/two_digit_addition.jsonl",
    "gpt3-tasks/three_digit_addition.jsonl",
    "gpt3-tasks/two_digit_subtraction.jsonl",
    "gpt3-tasks/cycle_letters_in_word.jsonl.gz",
    "gpt3-tasks/reversed_words.jsonl.gz",
    "zero-shot-cot/coin_flip.json",
    "zero-shot-cot/last_letters.json",
)


def evaluate(server: Server, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", "run", *arguments, "--server", server.grpc, "--output", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_one_example_helps_where_the_base_knows_the_format(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(server, capsys, "dates", "--shots", "0,1", "--limit", "40")
    (difference,) = found["comparisons"]
    assert difference["comparison"]["low"] > 0.3, found


def test_steps_help(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate(server, capsys, "sums", "--reasoning", "direct,chain_of_thought", "--limit", "20")
    (difference,) = found["comparisons"]
    assert difference["comparison"]["low"] > 0.3, found


def test_other_tools_files_run_as_they_are(server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    promptfoo = str(FILES / "promptfooconfig.yaml")
    found = evaluate(server, capsys, promptfoo, "--judge", "base", "--limit", "4", "--report", str(tmp_path))
    assert found["outcomes"][0]["num_questions"] == 4
    assert len(ElementTree.parse(tmp_path / "junit.xml").getroot()[0]) == 4
    arguments = [str(FILES / "tickets.json"), "--run", str(FILES / "tickets_run.json"), "--judge", "base"]
    found = evaluate(server, capsys, *arguments, "--limit", "2")
    assert set(found["outcomes"][0]["figures"]) == {"pass,none", "score,none"}


def test_a_program_beside_the_base(server: Server, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    """It shows examples of its own, which the base alone does not see; `rewritten` is no variable of it."""
    shown = [{"inputs": {"date": date}, "output": us} for date, us in DATES]
    program = {
        "prompt": "{{demonstrations}}{{date}} ->",
        "demonstrations": shown,
        "decoding": {"max_tokens": 16, "stop": ["\n"], "temperature": 0},
        "extraction": {"method": "first_line"},
    }
    client.push_prompt("dates/us", program, labels=["production"])
    arguments = ["--model", "base", "--model", "prompt:dates/us"]
    found = evaluate(server, capsys, "dates", *arguments, "--limit", "20")
    (difference,) = found["comparisons"]
    assert difference["candidate"] == "prompt:dates/us" and difference["comparison"]["low"] > 0.3, found


def test_a_program_is_not_given_the_answer(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It is refused by name before a question is asked, from a gate too, wherever the task's answer stands."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "2+2=", "completion": "4"}\n')
    rows = str(tmp_path / "rows.jsonl")
    command = ["evaluate", "run", "--server", server.grpc, "--limit", "1"]
    for variable, task, may_read in [
        ("sum", "sums", "a, b"),
        ("steps", "sums", "a, b"),
        ("completion", rows, "prompt"),
    ]:
        name = f"leaks/{variable}"
        client.push_prompt(name, {"prompt": f"{{{{{variable}}}}}?"}, labels=["production"])
        assert main([*command, task, "--model", f"prompt:{name}"]) == 2
        told = capsys.readouterr()
        assert f"reads `{variable}`, which holds the answer of" in told.err and f"may read: {may_read}." in told.err
    gate = ["evaluate", "gate", "--server", server.grpc, "--task", "dates", "--task", "sums"]
    assert main([*gate, "--baseline", "base", "--candidate", "prompt:leaks/sum"]) == 2
    assert "reads `sum`" in capsys.readouterr().err


def test_a_program_of_promptfoo_s_prompt_is_pushed_and_run_by_the_command_that_is_told(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = {
        "prompts": ["{{ who | trim }} was born on {{user.date}} ->"],
        "tests": [
            {"vars": {"who": " Al ", "user": {"date": "2014-06-01"}}, "assert": [{"type": "contains", "value": "x"}]}
        ],
    }
    (tmp_path / "born.yaml").write_text(json.dumps(config))
    task = str(tmp_path / "born.task.json")
    assert main(["evaluate", "import", str(tmp_path / "born.yaml"), "--to", task, "--programs", str(tmp_path)]) == 0
    command = shlex.split(capsys.readouterr().out.partition("; ")[2])
    assert main([*command[1:], "--label", "production", "--server", server.grpc]) == 0
    found = evaluate(server, capsys, task, "--model", "prompt:born")
    assert found["outcomes"][0]["num_refused"] == 0


def test_words_without_an_answer_end_neither_an_evaluation_nor_a_program_s_tests(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    program = {
        "prompt": "{{date}} ->",
        "decoding": {"max_tokens": 4},
        "extraction": {"method": "regex", "pattern": "never said"},
        "tests": [{"variables": {"date": date}, "equals": us} for date, us in DATES],
    }
    client.push_prompt("dates/mute", program, labels=["production"])
    found = evaluate(server, capsys, "dates", "--model", "prompt:dates/mute", "--limit", "3")["outcomes"][0]
    assert (found["num_refused"], found["num_unanswered"], found["figures"]["exact_match,none"]["mean"]) == (0, 3, 0)
    assert main(["prompts", "test", "dates/mute", "--server", server.grpc]) == 1
    told = capsys.readouterr()
    assert told.out.count("no answer: ") == 3 and "3 of 3 tests of dates/mute do not hold" in told.err


def test_a_gate(server: Server, two_versions: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A random adapter does not take the base's place, nor its other version's with less than nothing."""
    gate = ["evaluate", "gate", "--server", server.grpc, "--task", "dates", "--shots", "1", "--limit", "10"]
    assert main([*gate, "--baseline", "base", "--candidate", two_versions, "--certain"]) == 1
    assert capsys.readouterr().out.startswith(f"FAIL: {two_versions} in place of base")
    assert main([*gate, "--baseline", two_versions, "--candidate", "base"]) == 0


@pytest.mark.parametrize("name", PUBLIC)
def test_public_data(
    name: str, server: Server, data_path: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _check_public(server, data_path(name), capsys)


@pytest.mark.slow
def test_public_data_with_a_base_made_on_the_spot(
    data_path: Callable[[str], Path],
    seedling: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [data_path(name) for name in PUBLIC]
    running = start_server(tmp_path, "--base", str(seedling), "--quantization", "bf16", "--num-slots", "0")
    try:
        for path in paths:
            _check_public(running, path, capsys)
    finally:
        stop_server(running)


def _check_public(server: Server, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--reasoning", "direct,chain_of_thought"] if path.suffix == ".json" else ["--shots", "0,1"]
    found = evaluate(server, capsys, str(path), *arguments, "--limit", "2")
    assert [one["num_questions"] for one in found["outcomes"]] == [2, 2]
    assert sum(one["num_refused"] for one in found["outcomes"]) == 0
    assert all(0 <= one["figures"]["exact_match,none"]["mean"] <= 1 for one in found["outcomes"])


@pytest.fixture
def seedling(tmp_path: Path) -> Path:
    """A random Hugging Face base, small, with a context that the questions fit into."""
    import torch
    from transformers import LlamaForCausalLM

    from graft.training.job.export import write_base
    from graft.training.rootstock.recipe import llama_config
    from graft.training.rootstock.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(1024)
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config(tokenizer, width=128, num_layers=1)).to(torch.bfloat16)
    write_base(model, tokenizer, tmp_path / "seedling", card="# seedling\n")
    return tmp_path / "seedling"
