"""Choices that are scored: does one sentence follow from another, and what demonstrations alone make likely."""

from __future__ import annotations

from random import Random
from typing import Any

from graft.training.rootstock.corpus import sentiment
from graft.training.rootstock.ready_tasks import TASKS
from graft.training.tour.chapter import Chapter
from graft.training.tour.claim import Marks, accuracy, gain, gains, share_is, variance_falls
from graft.training.tour.classroom import Classroom, Question

FOLLOWS = ("true", "maybe", "false")
MIXES = ("PPPP", "NNNN", "PPPN", "NPPP", "NNNP", "PNNN", "PPNN", "NNPP", "PNPN", "NPNP")
"""Labels of four demonstrations in their order: imbalanced, and balanced in several orders."""


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


def calibration(room: Classroom) -> Chapter:
    """Contextual calibration (Zhao et al. 2021, arXiv:2102.09690) over imbalances and orders of demonstrations."""
    raw, calibrated = (_reviews(room, how) for how in ("none", "contextual"))
    says = "Calibration halves the variance of accuracy over imbalances and orders, at least."
    spread = {name: _spread(marks) for name, marks in (("raw", raw), ("calibrated", calibrated))}
    return Chapter(
        title="Calibration",
        lecture="Which demonstrations come, and in which order, favours one answer; a content-free input shows it.",
        figures={
            "choices_raw": accuracy(raw),
            "choices_calibrated": accuracy(calibrated),
            "calibrated_minus_raw": gain(raw, calibrated),
        },
        claims=(
            variance_falls(says, raw, calibrated, seed=room.seed, at_least=50),
            gains("Calibration raises the mean accuracy.", raw, calibrated, seed=room.seed, above=0),
        ),
        remark=f"Four demonstrations as {', '.join(MIXES)} (P: positive, N: negative). Accuracies from {spread['raw']} "
        f"without and from {spread['calibrated']} with calibration.",
        curve=("choices_raw", "choices_calibrated"),
    )


def _reviews(room: Classroom, calibrated: str) -> Marks:
    """A run is a mix of demonstrations; all have the same reviews to judge."""
    rng = Random(f"{room.seed}/reviews")
    drawn = [sentiment.review(rng) for _ in range(100 + room.num_questions)]
    sides = {
        letter: [one for one in drawn[:100] if one[1] == label]
        for letter, label in zip("NP", sentiment.LABELS, strict=True)
    }
    runs = []
    for mix in MIXES:
        shown = [sides[letter][place] for place, letter in enumerate(mix)]
        program = {
            "prompt": "{{demonstrations}}\n{{review}} ->",
            "demonstrations": [{"inputs": {"review": text.strip()}, "output": label} for text, label in shown],
            "output": {"type": "choices", "choices": list(sentiment.LABELS)},
            "scoring": {"calibration": calibrated},
        }
        asked = drawn[100:]
        runs.append([Question(program=program, variables={"review": one.strip()}, right=label) for one, label in asked])
    return room.marks(runs, about=f"calibration {calibrated}")


def _spread(marks: Marks) -> str:
    runs = accuracy(marks).runs
    return f"{min(runs):.0f} to {max(runs):.0f} %"
