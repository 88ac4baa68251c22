"""What the demo of reinforcement reckons with: gaps in windows, a curve, a recipe."""

from __future__ import annotations

import pytest

from graft.cli.demo.rl.curve import HEIGHT, WIDTH, curve
from graft.cli.demo.rl.others import Others, Window
from graft.cli.load import TimedAnswer


def answer(*arrivals: float) -> TimedAnswer:
    return TimedAnswer(
        text="", begin=arrivals[0], end=arrivals[-1], arrivals=arrivals, num_tokens=len(arrivals), answerer=None
    )


def test_a_gap_counts_where_it_lies_as_a_whole() -> None:
    others = Others(target="nobody")
    others.answers = [answer(0.0, 1.0, 3.0, 3.5), answer(9.0, 9.25)]
    others.windows = [
        Window(begin=0.5, end=3.2, is_training=False),
        Window(begin=3.0, end=10.0, is_training=True),
    ]
    assert others.gap_seconds(is_training=False) == 2.0
    assert others.gap_seconds(is_training=True) == 0.5
    assert others.gap_seconds(is_training=True, percent=50) == 0.25
    assert [one["num"] for one in others.by_window()] == [1, 2]
    assert Others(target="nobody").gap_seconds(is_training=True) is None


def test_a_curve_rises_as_its_values_do() -> None:
    lines = curve([0.0, 0.5, 1.0])
    assert len(lines) == HEIGHT + 1
    columns = list(zip(*(line.split("┤")[1] for line in lines[:-1]), strict=True))
    assert [sum(cell != " " for cell in column) for column in columns] == [0, HEIGHT // 2, HEIGHT]


@pytest.mark.parametrize("num", [0, 1, WIDTH, WIDTH + 1, 10 * WIDTH])
def test_a_curve_has_room_for_any_number(num: int) -> None:
    lines = curve([0.3] * num)
    assert all(len(line.split("┤")[1]) == min(num, WIDTH) for line in lines[:-1])
