"""Rows that a teacher writes: whose prompts, which answers, and what is left out and said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from graft.cli.main import main
from graft.client import Client, InvalidArgument
from graft.training.distill.prompts import read_questions
from graft.training.distill.sequences import Asking, distill, logprobs_of
from graft.training.distill.told import write
from graft.training.errors import DataError
from graft.training.job.lineage import data_digest
from graft.v1.common_pb2 import Answerer
from tests.training.report.pages import Page

ROWS: list[dict[str, Any]] = [
    {"prompt": "one", "completion": "not this"},
    {"prompt": "long"},
    {"messages": [{"role": "user", "content": "two"}, {"role": "assistant", "content": "nor this"}]},
    {"prompt": "empty"},
    {"prompt": "refused"},
]


class Teacher:
    """Answers as a server would."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, dict[str, Any]]] = []

    def generate(self, prompt: Any, **options: Any) -> Any:
        self.asked.append((prompt, options))
        said = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        if said == "refused":
            raise InvalidArgument("too long", code=grpc.StatusCode.INVALID_ARGUMENT)
        token = SimpleNamespace(alternatives=[SimpleNamespace(token_id=7, logprob=-0.5)])
        choice = SimpleNamespace(
            text="" if said == "empty" else f"{said}!",
            finish_reason="length" if said == "long" else "stop",
            token_ids=(7,),
            logprobs=(token,),
        )
        answerer = Answerer(
            adapter="fable", version_number=3, version_digest="sha256:ab", base="b", base_digest="sha256:c"
        )
        return SimpleNamespace(choices=(choice,) * options["num_choices"], answerer=answerer)


def rows_file(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asking(teacher: Any, **options: Any) -> Asking:
    return Asking(client=teacher, model="fable", max_tokens=16, **options)


def test_answers_become_rows_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    teacher, output = Teacher(), tmp_path / "out.jsonl"
    data, asked = rows_file(tmp_path, ROWS), asking(teacher, top_logprobs=1)
    told = distill(read_questions(data), asked, output)
    assert (told.num_rows, told.num_refused, told.num_cut, told.num_empty) == (2, 1, 1, 1)
    assert [json.loads(line) for line in output.read_text().splitlines()] == [
        {"prompt": "one", "completion": "one!"},
        {"messages": [{"role": "user", "content": "two"}, {"role": "assistant", "content": "two!"}]},
    ]
    likeliest = [json.loads(line) for line in logprobs_of(output).read_text().splitlines()]
    assert likeliest == [{"token_ids": [7], "top": [[[7, -0.5]]]}] * 2
    assert len(read_questions(output)) == 2
    assert all("not this" not in str(prompt) and "nor this" not in str(prompt) for prompt, _ in teacher.asked)
    seeds = {str(prompt): options["seed"] for prompt, options in teacher.asked}
    assert seeds["one"] == 0 and seeds["refused"] == 4
    assert {options["model"] for _, options in teacher.asked} == {"fable"}
    page = Page.read(write(told, asked, data=data, output=output))
    assert page.inside("pre")[1:] == ["one", "user: two"] and {"one!", "two!"} <= set(page.inside("p"))
    for said in ("fable@3 (sha256:ab) on b (sha256:c)", f"graft finetune --data {output}", data_digest(data)):
        assert said in page.text, said


def test_several_answers_to_each_prompt(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    questions = read_questions(rows_file(tmp_path, ROWS[:1]))
    assert distill(questions, asking(Teacher(), num_answers=3, temperature=1.0), output).num_rows == 3
    assert len(output.read_text().splitlines()) == 3


def test_no_answer_at_all_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 answers had not ended after 16 tokens"):
        distill(read_questions(rows_file(tmp_path, ROWS[1:2])), asking(Teacher()), tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_all_bad_rows_are_named(tmp_path: Path) -> None:
    bad = [{"text": "x"}, {"prompt": 3}, {"messages": []}, {"messages": [{"role": "system", "content": "x"}]}]
    with pytest.raises(DataError, match=r"(?s)line 1.*line 2.*line 3.*line 4"):
        read_questions(rows_file(tmp_path, bad))
    with pytest.raises(DataError, match="has no rows"):
        read_questions(rows_file(tmp_path, []))


def test_mistakes_are_said_at_once_before_a_server_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = rows_file(tmp_path, ROWS)
    asked = ["distill", "--data", str(data), "--output", str(data), "--answers", "2", "--server", "127.0.0.1:1"]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "--answers 2: greedy answers are all the same" in said and "is not there yet" in said
    assert len(said.strip().splitlines()) == 1


def test_what_tells_of_other_rows_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, output = rows_file(tmp_path, ROWS), tmp_path / "out.jsonl"
    logprobs_of(output).write_text("{}\n")
    assert main(["distill", "--data", str(data), "--output", str(output), "--server", "127.0.0.1:1"]) == 2
    assert f"beside it lies {logprobs_of(output)}, of other rows" in capsys.readouterr().err
    assert logprobs_of(output).read_text() == "{}\n" and not output.exists()


def test_a_served_base_teaches(client: Client, tmp_path: Path) -> None:
    """The real engine: greedy answers are those of the client, and rows to learn from."""
    data = rows_file(tmp_path, [{"prompt": "12+35? "}, {"messages": [{"role": "user", "content": "hello"}]}])
    output = tmp_path / "out.jsonl"
    told = distill(read_questions(data), Asking(client=client, model="", max_tokens=64, top_logprobs=2), output)
    assert told.num_rows + told.num_cut == 2 and told.num_rows
    first = json.loads(output.read_text().splitlines()[0])
    if "prompt" in first:
        assert first["completion"] == client.generate("12+35? ", max_tokens=64, temperature=0.0).text
    top = json.loads(logprobs_of(output).read_text().splitlines()[0])
    assert len(top["top"]) == len(top["token_ids"]) and all(len(one) == 2 for one in top["top"])
