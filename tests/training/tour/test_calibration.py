"""The chapter on calibration, told by a base whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from graft.training.tour.chapters.calibration import calibration
from graft.training.tour.classroom import Classroom, Question


class Swayed:
    """It can tell the classes, but with demonstrations all of one class it answers this one, unless the prompt is an
    arrow; calibration takes that away.
    """

    seed, per_run = 0, 10

    def runs(self, questions: Sequence[Question], *, about: str = "") -> list[Any]:
        return [self._run(one) for one in questions]

    def _run(self, question: Question) -> Any:
        program = cast(dict[str, Any], question.program)
        labels = program["output"]["choices"]
        shown = {one["output"] for one in program["demonstrations"]}
        swayed = len(shown) == 1 and "->" not in program["prompt"]
        said = shown.pop() if swayed else question.right
        choices = [SimpleNamespace(choice=label, logprob=float(label == said)) for label in labels]
        return SimpleNamespace(answer=question.right, result=SimpleNamespace(choices=choices))


def test_what_sways_is_found_and_taken_away() -> None:
    chapter = calibration(cast(Classroom, Swayed()))
    assert all(claim.held for claim in chapter.claims) and len(chapter.claims) == 6
    figures = {name: figure.value for name, figure in chapter.figures.items()}
    assert figures["first_letter_raw"] == 87.5 and figures["first_letter_calibrated"] == 100
    # Accuracies are 0.5 in two of eight prompts and 1 in the others: their variance is 0.5² · 1/4 · 3/4.
    assert round(figures["first_letter_deviation_raw"], 3) == round(100 * 0.5 * (3 / 16) ** 0.5, 3)
    assert figures["first_letter_deviation_calibrated"] == 0
    assert "`Q: …⏎A:` (469; 88 % right)" in chapter.remark and "`… ->`" not in chapter.remark


def test_what_is_not_swayed_is_not_improved() -> None:
    class Even(Swayed):
        def _run(self, question: Question) -> Any:
            labels = cast(dict[str, Any], question.program)["output"]["choices"]
            choices = [SimpleNamespace(choice=label, logprob=float(label == question.right)) for label in labels]
            return SimpleNamespace(answer=question.right, result=SimpleNamespace(choices=choices))

    assert not any(claim.held for claim in calibration(cast(Classroom, Even())).claims)
