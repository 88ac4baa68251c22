"""Self-Instruct's tasks as rows that text is learned from, by decoders and by encoder-decoders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.training.batch.rows.formats import row_of
from graft.training.batch.rows.row import Instruction
from graft.training.corpus import self_instruct
from graft.training.errors import DataError
from graft.training.tasks.rows.reading import read_rows
from graft.training.tasks.rows.written import written


def test_each_instance_is_a_row(tmp_path: Path) -> None:
    instances = [{"input": "3 4", "output": "7"}, {"input": "", "output": "none"}]
    path, rows = tmp_path / "tasks.jsonl", tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"id": "a", "name": "n", "instruction": "Add.", "instances": instances}) + "\n")
    assert main(["corpus", "self-instruct", "--data", str(path), "--output", str(rows)]) == 0
    found = [json.loads(line) for line in rows.open()]
    assert found == [{"instruction": "Add.", **one} for one in instances]
    assert [row_of(one) for one in found] == [
        Instruction(instruction="Add.", input="3 4", output="7"),
        Instruction(instruction="Add.", input="", output="none"),
    ]
    assert [(one.source, one.target) for _, one in read_rows(rows, written)] == [("Add.\n3 4", "7"), ("Add.", "none")]


def test_other_rows_are_refused_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    wrong = [{"instruction": "Add."}, {"instruction": "Add.", "instances": [{"input": "", "output": " "}]}, [1]]
    path.write_text("".join(json.dumps(row) + "\n" for row in wrong))
    with pytest.raises(DataError) as caught:
        self_instruct.read(path)
    told = str(caught.value)
    assert "line 1: a task of Self-Instruct has an instruction, and instances" in told and "line 3" in told
    assert "line 2: instance 1 needs the texts input, which may be empty, and output" in told


def test_the_published_file(data_path: Callable[[str], Path]) -> None:
    found = self_instruct.read(data_path("instructions/seed_tasks.jsonl"))
    assert len(found) == 175 and sum(not one["input"] for one in found) == 50
    assert found[1]["output"] == "The relation between the given pairs is that they are opposites."
    assert all(isinstance(row_of(one), Instruction) for one in found)
