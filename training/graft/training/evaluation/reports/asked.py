"""What was asked, as reports tell it: a prompt, or a program's variables."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from graft.training.evaluation.asking.model import Prompt
from graft.training.evaluation.asking.programs import PREFIX
from graft.training.evaluation.running.outcome import WORKED, Outcome, Record
from graft.training.evaluation.tasks import shots


def asked(one: Outcome, record: Record) -> dict[str, Any]:
    """``prompt`` with its examples (of reasoning in two stages the question alone, from which both begin), a text or
    turns; of programs the ``variables`` that they may read.
    """
    if one.model.startswith(PREFIX):
        return {"variables": dict(one.task.questions[record.index].variables)}
    task = one.task.worked or one.task if one.setting.reasoning == WORKED else one.task
    return {"prompt": _plain(shots.written(task, record.index, shots=one.setting.shots, seed=one.seed))}


def question_of(one: Outcome, record: Record) -> str:
    """The question alone, on few lines."""
    question = one.task.questions[record.index]
    if one.model.startswith(PREFIX):
        return json.dumps(dict(question.variables), ensure_ascii=False, default=str)
    if isinstance(question.prompt, str):
        return question.prompt
    return "\n".join(f"{turn.role}: {turn.content}" for turn in question.prompt)


def _plain(prompt: Prompt) -> str | list[dict[str, str]]:
    return prompt if isinstance(prompt, str) else [asdict(turn) for turn in prompt]
