"""The fields that no prompt program is given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graft.training.evaluation.importing import reading as importing
from graft.training.evaluation.tasks import reading
from graft.training.evaluation.tasks.answers import withheld
from graft.training.evaluation.tasks.task import Task

FILES = Path(__file__).parents[1] / "importing" / "files"


def fields(task: Task) -> set[str]:
    left = withheld(task)
    assert all(set(one.variables).isdisjoint(left.answer_fields) for one in left.questions)
    return {name for one in left.questions for name in one.variables}


@pytest.mark.parametrize("name", reading.ready())
def test_no_field_of_a_ready_task_is_its_answer(name: str) -> None:
    left = withheld(reading.read(name))
    for one in left.questions:
        assert one.variables and not {str(value).strip() for value in one.variables.values()} & set(one.targets)


def test_worked_steps_are_withheld_with_the_sum() -> None:
    assert fields(reading.read("sums")) == {"a", "b"}


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ({"prompt": "2+2=", "completion": "4"}, {"prompt"}),
        ({"context": "2+2=", "completion": "4", "worked": "2+2 is 4", "id": 7}, {"context", "id"}),
        ({"question": "2+2?", "answer": "is\n#### 4"}, {"question"}),
        ({"question": "2+2?", "choices": ["4", "5"], "answer": 0}, {"question", "choices"}),
    ],
)
def test_rows(row: dict[str, Any], left: set[str], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert fields(reading.read(str(tmp_path / "rows.jsonl"))) == left


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"doc_to_text": "{{q}}", "doc_to_target": "{{a.text}}"}, {"q", "label", "options", "c"}),
        ({"doc_to_text": "q", "doc_to_target": "{{options[label]}}"}, {"q", "a", "c"}),
        ({"doc_to_text": "{{q}} {{options}}", "doc_to_target": "{{options[label]}}"}, {"q", "a", "options", "c"}),
        ({"doc_to_text": "{{a.hint}}", "doc_to_target": "{{a.text}}"}, {"q", "label", "options", "c"}),
        ({"doc_to_text": "Say {{c}}:", "doc_to_target": "{{c}}"}, {"q", "a", "label", "options", "c"}),
    ],
)
def test_a_harness_task(settings: dict[str, str], left: set[str], tmp_path: Path) -> None:
    rows = [
        {"q": "colour?", "a": {"text": text, "hint": "-"}, "label": label, "options": ["red", "blue"], "c": c}
        for text, label, c in [("green", 0, "x"), ("brown", 1, "y")]
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"task": "t", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}}}
    (tmp_path / "t.yaml").write_text(json.dumps({**task, "test_split": "test", **settings}))
    assert fields(reading.read(str(tmp_path / "t.yaml"))) == left


def test_what_graders_read_and_the_prompt_does_not() -> None:
    task = importing.read(str(FILES / "tickets.json"), run=FILES / "tickets_run.json", data=None)
    assert task.answer_fields and not fields(task) & set(task.answer_fields)


def test_what_assertions_read_and_no_prompt(tmp_path: Path) -> None:
    config = {
        "prompts": ["Capital of {{country}}?"],
        "tests": [
            {
                "vars": {"country": "Peru", "capital": "Lima"},
                "assert": [{"type": "contains", "value": "{{capital}}, {{country}}"}],
            }
        ],
    }
    (tmp_path / "capitals.yaml").write_text(json.dumps(config))
    assert fields(importing.read(str(tmp_path / "capitals.yaml"), run=None, data=None)) == {"country"}
