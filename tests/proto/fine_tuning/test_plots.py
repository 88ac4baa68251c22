"""Curves in characters: what stands where, and that a picture is drawn over the one before."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.cli.plots.canvas import Canvas
from graft.cli.plots.chart import Style, chart
from graft.cli.plots.screen import Screen, style_of
from graft.cli.terminal import paint
from tests.proto.fine_tuning.terminal import displayed

DOTS = Style(colours=False, unicode=True)
LETTERS = Style(colours=False, unicode=False)
FINITE = st.floats(-1e6, 1e6)


def plain(canvas: Canvas) -> list[str]:
    return list(canvas.rows(lambda text, curve: text))


def test_each_dot_is_unicodes_dot_of_that_place() -> None:
    """Unicode names the characters by their dots: 1-3 and 7 on the left, 4-6 and 8 on the right."""
    import unicodedata

    for number, (x, y) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)], start=1):
        canvas = Canvas(1, 1)
        canvas.line(0, (x, y), (x, y))
        assert unicodedata.name(plain(canvas)[0]) == f"BRAILLE PATTERN DOTS-{number}"


def test_a_line_has_its_ends_and_no_holes() -> None:
    canvas = Canvas(10, 10, letters="a")
    canvas.line(0, (0, 9), (9, 3))
    rows = plain(canvas)
    assert rows[9][0] == rows[3][9] == "a"
    assert all(any(row[column] == "a" for row in rows) for column in range(10))


def test_a_falling_curve_falls() -> None:
    points = [(float(step), 10.0 - step) for step in range(11)]
    lines = chart("loss", {"train_loss": points}, width=40, height=12, style=LETTERS)
    assert lines[0] == "loss  a train_loss 0" and len(lines) == 12
    columns = [line.index("a") for line in lines[1:-1]]
    assert columns == sorted(columns) and columns[0] < 8 and lines[-2].rstrip().endswith("a")
    assert lines[1].startswith("10 |") and lines[-2].startswith(" 0 |")
    assert lines[-1].split() == ["step", "0", "10"]


@given(
    curves=st.lists(st.lists(st.tuples(st.integers(0, 500), FINITE), max_size=60), max_size=4),
    width=st.integers(30, 120),
    height=st.integers(3, 15),
    style=st.sampled_from([DOTS, LETTERS]),
)
def test_a_chart_keeps_to_its_room(
    curves: list[list[tuple[int, float]]], width: int, height: int, style: Style
) -> None:
    named = {f"m{index}": sorted((float(x), y) for x, y in points) for index, points in enumerate(curves)}
    lines = chart("title", named, width=width, height=height, style=style)
    assert len(lines) in ((height,) if any(curves) else (0,))
    assert all(len(line) <= width for line in lines)


def test_leaving_out_dots_of_a_column_changes_nothing() -> None:
    import random

    chance = random.Random(0)
    points = [(float(step), chance.gauss(0, 1)) for step in range(5_000)]
    crowded = chart("", {"m": points}, width=40, height=10, style=DOTS)
    canvas = Canvas(40 - len("-3.914") - 2, 8)
    low, high = min(y for _, y in points), max(y for _, y in points)
    across = [round(x / 4_999 * (canvas.num_x - 1)) for x, _ in points]
    down = [round((high - y) / (high - low) * (canvas.num_y - 1)) for _, y in points]
    for begin, end in zip(zip(across, down, strict=True), list(zip(across, down, strict=True))[1:], strict=False):
        canvas.line(0, begin, end)
    assert [line.partition("┤")[2] for line in crowded[1:-1]] == plain(canvas)


def test_what_is_no_number_is_left_out() -> None:
    points = [(0.0, math.nan), (1.0, 2.0), (2.0, math.inf)]
    assert chart("t", {"m": points, "n": [(0.0, math.nan)]}, width=40, height=5, style=LETTERS)[0] == "t  a m 2"
    assert chart("t", {"n": [(0.0, math.nan)]}, width=40, height=5, style=LETTERS) == []


def test_each_frame_takes_the_place_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "10")
    terminal = io.StringIO()
    with Screen(terminal) as screen:
        for lines in (["one"], ["two", "three", "four"], ["\x1b[1mfive\x1b[0m", "six"]):
            screen.show(lines)
    terminal.write("done\n")
    assert displayed(terminal.getvalue()) == ["five", "six", "done"]
    assert terminal.getvalue().count("\x1b[?25h") == 1, "the cursor is shown again"


def test_where_nothing_but_ascii_can_be_written_letters_are() -> None:
    for encoding, has_unicode in (("utf-8", True), ("ascii", False), ("latin-1", False)):
        style = style_of(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert (style.unicode, style.colours) == (has_unicode, False)


@pytest.mark.parametrize(("term", "has_colours"), [("xterm", True), ("dumb", False)])
def test_a_terminal_that_shows_no_colours_gets_none(
    term: str, has_colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", term)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert (paint("word", "red", stream=Terminal()) != "word") is style_of(Terminal()).colours is has_colours
