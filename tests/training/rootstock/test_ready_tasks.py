"""The tasks that come with Graft: they lie there as they are made, and say what is right."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from graft.training.evaluation.running.marking import answer_of
from graft.training.evaluation.running.run import Plan, evaluate
from graft.training.evaluation.tasks import reading
from graft.training.evaluation.tasks.task import Kind
from graft.training.rootstock import ready_tasks
from graft.training.rootstock.corpus.words import is_held_out
from tests.training.evaluation.scripted import ScriptedModel


def test_the_files_are_those_that_are_made() -> None:
    for name, rows in ready_tasks.all_rows().items():
        for split, some in (("test", rows[:200]), ("train", rows[200:])):
            text = (reading.READY / f"{name}.{split}.jsonl").read_text()
            assert [json.loads(line) for line in text.splitlines()] == json.loads(json.dumps(some)), name


@pytest.mark.parametrize("name", reading.ready())
def test_each_is_asked_with_and_without_examples(name: str) -> None:
    task = reading.read(name)
    assert len(task.questions) == 200 and len(task.examples) == 32 and not task.examples_are_questions
    assert len({question.prompt for question in task.questions}) > 100
    outcomes = evaluate([ScriptedModel(say_=lambda prompt, path: "x")], [task], Plan(shots=(0, 8), limit=20))
    assert [len(one.records) for one in outcomes] == [20, 20]
    if task.kind is Kind.CHOICE:  # no answer wins by its place alone
        most = Counter(question.gold for question in task.questions).most_common(1)[0][1]
        assert most < 0.6 * len(task.questions)


def test_right_answers_are_right() -> None:
    for question in reading.read("unscrambling").questions:
        (right,) = question.targets
        assert question.prompt == f"{right[::-1]} ->" and is_held_out(right)
    first = reading.read("dates-invented").questions[0]
    year, month, day = str(first.variables["date"]).split("-")
    assert first.targets == (f"!{month}!{day}!{year}!",)
    task = reading.read("sums")
    assert task.worked is not None
    for direct, worked in zip(task.questions, task.worked.questions, strict=True):
        assert direct.targets == (str(int(direct.variables["a"]) + int(direct.variables["b"])),)
        assert answer_of(f" {worked.variables['steps']}", task.worked.readings[0]) == direct.targets[0]
    for question in reading.read("reading-comprehension").questions:
        assert question.targets[0] in str(question.prompt)
        assert sum(choice in str(question.prompt) for choice in question.choices) == 1
