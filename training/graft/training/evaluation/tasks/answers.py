"""Which of a question's fields hold its answer, and are kept from prompt programs for that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graft.training.evaluation.asking.model import Prompt
from graft.training.evaluation.tasks.task import Question, Task


def withheld(task: Task) -> Task:
    """The task with ``answer_fields`` complete and its questions' variables without them.

    Added to those that the task names are fields such as worked steps: in every question they hold a right answer's
    text, and neither the prompt nor the choices show them.
    """
    names = {name for question in task.questions for name in question.variables}
    hidden = set(task.answer_fields) | {name for name in names if _holds_answers(task, name)}
    questions = tuple(
        replace(one, variables={name: value for name, value in one.variables.items() if name not in hidden})
        for one in task.questions
    )
    return replace(task, questions=questions, answer_fields=tuple(sorted(hidden)))


def _holds_answers(task: Task, name: str) -> bool:
    return all(name in one.variables and _holds_answer(one, one.variables[name]) for one in task.questions)


def _holds_answer(question: Question, value: Any) -> bool:
    if value == list(question.choices) or str(value) in _text(question.prompt):
        return False
    return any(target.strip() and target.strip() in str(value) for target in question.targets)


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(turn.content for turn in prompt)
