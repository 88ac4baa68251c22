"""Curves over a common axis, as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graft.cli.plots.canvas import Canvas
from graft.cli.terminal import painted

Points = Sequence[tuple[float, float]]
"""Steps, rising, and values."""
_COLOURS = ("36", "33", "32", "35", "31", "34")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MIN_CELLS = 8


@dataclass(frozen=True, kw_only=True)
class Style:
    """What the reader's terminal can show."""

    colours: bool
    """ANSI colours; without them several curves are told apart by letters."""
    unicode: bool
    """Braille characters and lines."""

    def paint(self, text: str, code: str) -> str:
        return painted(text, code) if self.colours else text

    def letters(self, num_curves: int) -> str:
        """Empty where dots are drawn."""
        return _LETTERS if not self.unicode or (num_curves > 1 and not self.colours) else ""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From values to dots: `low` is the first dot's value, `high` the last one's."""

    low: float
    high: float
    num_dots: int

    def dot(self, value: float) -> int:
        if self.high == self.low:
            return self.num_dots // 2
        return round((value - self.low) / (self.high - self.low) * (self.num_dots - 1))


def chart(title: str, curves: Mapping[str, Points], *, width: int, height: int, style: Style) -> list[str]:
    """`height` lines of at most `width` characters: a title with each curve's last value, the curves, and the steps.

    Values that are no numbers are left out. Empty where no curve has a point.
    """
    known = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()}
    known = {name: points for name, points in known.items() if points}
    if not known:
        return []
    values = [y for points in known.values() for _, y in points]
    steps = [x for points in known.values() for x, _ in points]
    labels = [_short(max(values)), _short(min(values))]
    margin = max(map(len, labels))
    num_cells, num_rows = max(_MIN_CELLS, width - margin - 2), max(1, height - 2)
    letters = style.letters(len(known))
    canvas = Canvas(num_cells, num_rows, letters=letters)
    across = _Scale(low=min(steps), high=max(steps), num_dots=canvas.num_x)
    down = _Scale(low=max(values), high=min(values), num_dots=canvas.num_y)
    for index, points in enumerate(known.values()):
        _draw(canvas, index, points, across, down)
    rows = canvas.rows(lambda text, index: style.paint(text, _COLOURS[index % len(_COLOURS)]))
    edge = "┤" if style.unicode else "|"
    lines = [_title(title, known, letters, width, style)]
    for index, row in enumerate(rows):
        label = labels[0] if index == 0 else labels[1] if index == num_rows - 1 else ""
        lines.append(f"{label:>{margin}} {edge}{row}")
    return [*lines, " " * (margin + 2) + _steps(min(steps), max(steps), num_cells)]


def _draw(canvas: Canvas, index: int, points: Points, across: _Scale, down: _Scale) -> None:
    dots = [(across.dot(x), down.dot(y)) for x, y in points]
    last = dots[0]
    canvas.line(index, last, last)
    for dot in _thinned(dots):
        canvas.line(index, last, dot)
        last = dot


def _thinned(dots: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Of all dots in one column the first, the extremes and the last: what is drawn stays the same."""
    begin = 0
    while begin < len(dots):
        end = begin
        while end < len(dots) and dots[end][0] == dots[begin][0]:
            end += 1
        column = dots[begin:end]
        yield from (column[0], min(column), max(column), column[-1])
        begin = end


def _title(title: str, curves: Mapping[str, Points], letters: str, width: int, style: Style) -> str:
    mark = "●" if style.unicode else "*"
    line, num_shown = style.paint(title, "1"), len(title)
    for index, (name, points) in enumerate(curves.items()):
        sign = letters[index % len(letters)] if letters else mark
        text = f"{name} {_short(points[-1][1])}"
        if num_shown + len(text) + 4 > width:
            break
        line += f"  {style.paint(sign, _COLOURS[index % len(_COLOURS)])} {text}"
        num_shown += len(text) + 4
    return line


def _steps(first: float, last: float, width: int) -> str:
    begin, end = f"step {first:g}", f"{last:g}"
    return begin if first == last else begin + " " * max(1, width - len(begin) - len(end)) + end


def _short(value: float) -> str:
    return f"{value:.4g}"
