"""Files of rows alone, real ones too."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from graft.training.errors import DataError
from graft.training.evaluation.running.marking import answer_of
from graft.training.evaluation.tasks import reading, rows
from graft.training.evaluation.tasks.shots import written
from graft.training.evaluation.tasks.task import Kind, Metric


@pytest.mark.parametrize(
    ("name", "num", "prompt", "right"),
    [
        ("two_digit_addition.jsonl", 2000, "\n\nQ: What is 98 plus 45?\n\nA:", "143"),
        ("cycle_letters_in_word.jsonl.gz", 10000, "\nasinoc =", "casino"),
    ],
)
def test_gpt3(name: str, num: int, prompt: str, right: str, data_path: Callable[[str], Path]) -> None:
    task = rows.read(data_path(f"gpt3-tasks/{name}"))
    first = task.questions[0]
    assert (len(task.questions), first.prompt, first.targets) == (num, prompt, (right,))
    shown = str(written(task, 0, shots=3, seed=0))
    assert shown.endswith(prompt) and shown.count(prompt[-2:]) == 4 and prompt not in shown.removesuffix(prompt)
    assert answer_of(f" {right}\n", task.readings[0]) == right


@pytest.mark.parametrize(
    ("name", "said", "answer"),
    [("coin_flip", " No, it is not. Yes", "No"), ("last_letters", ' "y a j o".\n', "yajo")],
)
def test_zero_shot_cot(name: str, said: str, answer: str, data_path: Callable[[str], Path]) -> None:
    """Answers are read as the paper's code reads them."""
    task = rows.read(data_path(f"zero-shot-cot/{name}.json"))
    assert len(task.questions) == 500 and task.kind is Kind.GENERATE
    assert answer_of(said, task.readings[0]) == answer
    assert ("Yes or No" in task.answer_instruction) == (name == "coin_flip")


def test_gsm8k_shows_its_steps(data_path: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text(json.dumps({"question": "1+1?", "answer": "One and one.\n#### 2"}) + "\n")
    task = rows.read(path)
    assert task.worked is not None and task.questions[0].targets == ("2",)
    assert task.worked.examples[0].answer == "One and one. Therefore, the answer is 2."
    assert answer_of("so 1,000 and 2,5.", task.readings[0]) == "25"


def test_choices(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "a?", "choices": ["x", "y"], "answer": "y"}\n')
    task = rows.read(path)
    assert (task.kind, task.questions[0].gold) == (Kind.CHOICE, (1,))
    path.write_text('{"question": "a?", "choices": ["x", "y"], "answer": "z"}\n')
    with pytest.raises(DataError, match="row 1: `answer` is neither"):
        rows.read(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "holds no rows"), ('{"a": 1}\n', "rows have a"), ("[1]\n", "must be an object"), ("{\n", "line 1")],
)
def test_other_rows_are_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        rows.read(path)


def test_a_task_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "a?", "choices": ["x", "y"], "answer": "y"}\n')
    task = rows.read(path)
    reading.write(task, tmp_path / "x.task.json")
    assert reading.read(str(tmp_path / "x.task.json")) == task


def test_a_written_task_has_no_metric_that_nothing_computes(tmp_path: Path) -> None:
    """Files of an earlier version may ask for `acc_mutual_info`, which was not the harness' figure of that name."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "a?", "choices": ["x", "y"], "answer": "y"}\n')
    task = replace(rows.read(path), metrics=(Metric(name="acc"), Metric(name="acc_mutual_info")))
    reading.write(task, tmp_path / "x.task.json")
    with pytest.raises(DataError, match="`acc_mutual_info` is not supported for multiple_choice; use acc, acc_norm"):
        reading.read(str(tmp_path / "x.task.json"))


def test_fewer_examples_are_the_first_of_more(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(f'{{"prompt": "p{n}", "completion": "c{n}"}}\n' for n in range(30)))
    task = rows.read(path)
    for index in range(30):
        four, two = (str(written(task, index, shots=shots, seed=1)) for shots in (4, 2))
        assert four.startswith(two.removesuffix(f"p{index}")) and f"p{index}c" not in four
