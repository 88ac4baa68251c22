"""Choices that are scored: does one sentence follow from another?"""

from __future__ import annotations

from random import Random
from typing import Any

from graft.training.rootstock.ready_tasks import TASKS
from graft.training.tour.chapter import Chapter
from graft.training.tour.claim import share_is
from graft.training.tour.classroom import Classroom, Question
from graft.training.tour.figure import accuracy

FOLLOWS = ("true", "maybe", "false")


def premise_and_hypothesis(room: Classroom) -> Chapter:
    """Natural language inference with delimiters."""
    runs = [_inference_run(room, run) for run in range(room.num_runs)]
    marks = room.marks(runs, about="premise and hypothesis")
    says = "More hypotheses are judged rightly than by chance (one in three)."
    return Chapter(
        title="Premise and hypothesis",
        lecture="A task is put into the prompt with delimiters: `Premise: … Hypothesis: … Answer:`.",
        figures={"inference": accuracy(marks)},
        claims=(share_is(says, marks, above=100 / 3),),
        examples=(room.example(runs[0][0]),),
        remark="The base was trained on no such pairs, and on few sentences at all.",
    )


def _inference_run(room: Classroom, run: int) -> list[Question]:
    rng = Random(f"{room.seed}/inference/{run}")
    rows: list[Any] = [TASKS["nli"](rng) for _ in range(6 + room.per_run)]
    shown = [{"inputs": _sentences(row), "output": FOLLOWS[row["label"]]} for row in rows[:6]]
    program = {
        "prompt": "{{demonstrations}}\nPremise: {{premise}}\nHypothesis: {{hypothesis}}\nAnswer:",
        "demonstrations": shown,
        "output": {"type": "choices", "choices": list(FOLLOWS)},
    }
    return [Question(program=program, variables=_sentences(row), right=FOLLOWS[row["label"]]) for row in rows[6:]]


def _sentences(row: Any) -> dict[str, str]:
    return {"premise": row["premise"], "hypothesis": row["hypothesis"]}
