"""Choices calibrated against raw ones, over imbalances and orders of four demonstrations.

The rules are fixed before any question is asked. Each set of demonstrations is shown in the form of prompt in which the
raw accuracy on *development* questions varies most over the label patterns; what is claimed is measured with other
questions. The method is batch calibration throughout (Zhou et al. 2023, arXiv:2309.17249).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from graft.client import PromptRun
from graft.training.tour.chapter import Chapter
from graft.training.tour.chapters.two_classes import NUM_SHOWN, TASKS, Form, Material, Task, material
from graft.training.tour.claim import Claim, gains, variance_falls
from graft.training.tour.classroom import Classroom, Question
from graft.training.tour.figure import Figure, Marks, accuracies, deviation, mean_accuracy
from graft.training.tour.progress import tell

PATTERNS = tuple(tuple(map(int, one)) for one in ("0000", "0001", "1000", "0011", "1100", "0111", "1110", "1111"))
"""The classes of the demonstrations in their order: all of one, three of one with the other first or last, two of each
in both orders.
"""
NUM_SETS = 5
"""Of demonstrations, each with questions of its own."""
NUM_DEVELOPING = 10
"""Questions of each prompt that choose the form; batch calibration begins with as many inputs of a prompt."""
MIN_RIGHT = 80.0
"""Percent of development questions: where the base cannot tell the classes (chance is 50) nothing can be uncovered."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of a task, by set of demonstrations: what form was chosen, and marks by pattern."""

    task: Task
    forms: Sequence[str]
    sides: Sequence[Sequence[int]]
    """The questions' classes."""
    raw: Sequence[Marks]
    calibrated: Sequence[Marks]


def calibration(room: Classroom) -> Chapter:
    """Each task in the forms that development questions chose, judged by other questions."""
    outcomes = [_outcome(room, task) for task in TASKS]
    figures: dict[str, Figure] = {}
    for one in outcomes:
        for name, marks in (("raw", one.raw), ("calibrated", one.calibrated)):
            figures[f"{one.task.name}_{name}"] = mean_accuracy(marks, seed=room.seed)
            figures[f"{one.task.name}_deviation_{name}"] = deviation(marks, seed=room.seed)
    return Chapter(
        title="Calibration",
        lecture="Which demonstrations come, in which order, favours one answer whatever is asked (Zhao et al. 2021).",
        figures=figures,
        claims=tuple(claim for one in outcomes for claim in _claims(room, one)),
        remark=_remark(outcomes),
        curve=tuple(name for name in figures if "deviation" in name),
    )


def _claims(room: Classroom, one: Outcome) -> tuple[Claim, ...]:
    name = one.task.name.replace("_", " ")
    return (
        variance_falls(
            f"{name}: calibrated, the variance of accuracy over demonstrations' labels and orders is halved at least.",
            one.raw,
            one.calibrated,
            seed=room.seed,
            at_least=50,
        ),
        variance_falls(
            f"{name}: calibrated, how often one class is the answer varies half as much over them, at most.",
            _answered(one, one.raw),
            _answered(one, one.calibrated),
            seed=room.seed,
            at_least=50,
        ),
        gains(
            f"{name}: calibration raises the mean accuracy.",
            _by_question(one.raw),
            _by_question(one.calibrated),
            seed=room.seed,
            above=0,
        ),
    )


def _answered(one: Outcome, marks: Sequence[Marks]) -> list[Marks]:
    """Whether the answer was the second class, whatever was right."""
    return [
        [[float(mark == side) for mark, side in zip(row, sides, strict=True)] for row in own]
        for own, sides in zip(marks, one.sides, strict=True)
    ]


def _by_question(marks: Sequence[Marks]) -> list[list[float]]:
    """Of each set, every question's share of right answers over the patterns."""
    return [[float(share) for share in np.mean(np.asarray(one, dtype=np.float64), axis=0)] for one in marks]


def _remark(outcomes: Sequence[Outcome]) -> str:
    chosen = " ".join(f"{one.task.name.replace('_', ' ')}: {', '.join(one.forms)}." for one in outcomes)
    return (
        f"{len(PATTERNS)} label patterns of {NUM_SHOWN} demonstrations, {NUM_SETS} sets of these. On {NUM_DEVELOPING} "
        f"development questions, which are not judged, raw accuracy varied most in these forms (variance in points "
        f"squared): {chosen}"
    )


def _outcome(room: Classroom, task: Task) -> Outcome:
    raw, calibrated, forms, sides = [], [], [], []
    for index in range(NUM_SETS):
        tell(f"   {task.name.replace('_', ' ')}: set {index + 1} of {NUM_SETS} …")
        rng = Random(f"{room.seed}/calibration/{task.name}/{index}")
        drawn = material(task, rng, NUM_DEVELOPING + 2 * (3 * room.per_run // 2))
        form, developed = _chosen_form(room, task, drawn)
        plain, better = _asked(room, form, drawn, slice(NUM_DEVELOPING, None), about=f"{task.name}, judged")
        raw.append(plain)
        calibrated.append(better)
        forms.append(developed)
        sides.append([side for _, side in drawn.asked[NUM_DEVELOPING:]])
    return Outcome(task=task, forms=forms, sides=sides, raw=raw, calibrated=calibrated)


def _chosen_form(room: Classroom, task: Task, drawn: Material) -> tuple[Form, str]:
    """By development questions; and what was found in it."""
    found = []
    for form in task.forms:
        raw, _ = _asked(room, form, drawn, slice(NUM_DEVELOPING), about=f"{task.name}, development")
        shares = accuracies(raw)
        found.append((form, 100 * float(shares.mean()), 10_000 * float(shares.var())))
    able = [one for one in found if one[1] >= MIN_RIGHT]
    form, right, variance = max(able, key=lambda one: one[2]) if able else max(found, key=lambda one: one[1])
    return form, f"{_shown(form)} ({variance:.0f}; {right:.0f} % right)"


def _shown(form: Form) -> str:
    labels = f" {'/'.join(form.labels)}" if form.labels else ""
    return f"`{form.text}{labels}`".replace("\n", "⏎").replace("{{text}}", "…")


def _asked(room: Classroom, form: Form, drawn: Material, part: slice, *, about: str) -> tuple[Marks, Marks]:
    """Raw and calibrated, by pattern: the same answers, judged by the choices' own log-probabilities or as told."""
    labels = form.labels or drawn.labels
    questions = [
        Question(program=_program(form, drawn, pattern), variables={"text": text}, right=labels[side])
        for pattern in PATTERNS
        for text, side in drawn.asked[part]
    ]
    answers = list(zip(questions, room.runs(questions, about=about), strict=True))
    raw = [_likeliest(run) == question.right for question, run in answers]
    calibrated = [run is not None and run.answer == question.right for question, run in answers]
    size = len(questions) // len(PATTERNS)
    rows = range(0, len(questions), size)
    return [raw[row : row + size] for row in rows], [calibrated[row : row + size] for row in rows]


def _likeliest(run: PromptRun | None) -> str | None:
    return None if run is None else max(run.result.choices, key=lambda one: one.logprob).choice


def _program(form: Form, drawn: Material, pattern: Sequence[int]) -> dict[str, object]:
    labels = form.labels or drawn.labels
    shown = [{"inputs": {"text": drawn.shown[side][at]}, "output": labels[side]} for at, side in enumerate(pattern)]
    return {
        # With the blank at the prompt's end a letter is one token, which costs one step.
        "prompt": "{{demonstrations}}\n" + form.text + " ",
        "demonstrations": shown,
        "demonstrating": {"before_answer": ""},
        "output": {"type": "choices", "choices": list(labels)},
        "scoring": {"calibration": "batch"},
    }
