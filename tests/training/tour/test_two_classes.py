"""Material for a choice between two classes: as many questions of each, and none shown or asked twice."""

from __future__ import annotations

from random import Random

import pytest

from graft.training.tour.chapters.calibration import PATTERNS
from graft.training.tour.chapters.two_classes import TASKS, Task, material


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_material_is_balanced_and_distinct(task: Task) -> None:
    for seed in range(5):
        drawn = material(task, Random(seed), 16)
        texts = [*drawn.shown[0], *drawn.shown[1], *(text for text, _ in drawn.asked)]
        assert len(set(texts)) == len(texts) == 8 + 16 and drawn == material(task, Random(seed), 16)
        for begin in (0, 6, 10):
            assert sum(side for _, side in drawn.asked[:begin]) == begin / 2, "whatever part is asked is balanced"
        assert len(set(drawn.labels)) == 2


def test_words_have_the_letter_of_their_class() -> None:
    drawn = material(next(task for task in TASKS if task.name == "first_letter"), Random(0), 16)
    assert all(text[0] == drawn.labels[side] for text, side in drawn.asked)
    assert all(text[0] == drawn.labels[side] for side in (0, 1) for text in drawn.shown[side])


def test_patterns_favour_no_class() -> None:
    """Each stands beside its mirror image: what one favours, another disfavours."""
    assert {tuple(1 - side for side in one) for one in PATTERNS} == set(PATTERNS)
    assert {tuple(reversed(one)) for one in PATTERNS} == set(PATTERNS)
    assert {sum(one) for one in PATTERNS} == {0, 1, 2, 3, 4} and len(set(PATTERNS)) == len(PATTERNS)
