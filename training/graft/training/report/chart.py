"""Curves over the steps of a training, as SVG that takes its colours from the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from graft.training.report.scale import Scale, ticks

MAX_POINTS = 600
"""Of a curve: a page of a long training stays small."""
_NUM_COLORS = 6
_WIDTH = 470
"""Of two that stand side by side; what is wider has a line to itself."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 12, 22
"""Units of the drawing around what is plotted."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """``values`` after so many ``steps``, in this order."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    is_measured: bool = False
    """At some steps only: shown with its points."""
    is_faint: bool = False
    """In the colour of the next one, of which it shows the single values."""


def chart(curves: Sequence[Curve], *, unit: str, width: int = _WIDTH, height: int = 200) -> str:
    """``<figure>…</figure>``; its sizes are pixels where there is room. The same curves make the same text.

    Raises ``ValueError`` where no curve has a point.
    """
    shown = [thinned(one) for one in curves if one.steps]
    x = Scale.of([step for one in shown for step in one.steps], start=_LEFT, end=width - _RIGHT)
    values = [value for one in shown for value in one.values]
    y = Scale.of(values, start=height - _BOTTOM, end=_TOP, has_room=True)
    colours = list(_colours(shown))
    lines = "".join(_line(one, colour, x, y) for one, colour in zip(shown, colours, strict=True))
    names = "".join(
        f'<span class="{colour}">● {escape(one.name)}</span>'
        for one, colour in zip(shown, colours, strict=True)
        if len(shown) > 1 and not one.is_faint
    )
    return (
        f"<figure{' class=whole' if width > _WIDTH else ''}><figcaption>{escape(unit)}{names}</figcaption>"
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(unit)} by step">'
        f"{_grid(x, y, width, height)}{lines}</svg></figure>"
    )


def thinned(curve: Curve) -> Curve:
    """The means of equally long pieces where there are too many points."""
    num = len(curve.steps)
    if num <= MAX_POINTS:
        return curve
    edges = [num * piece // MAX_POINTS for piece in range(MAX_POINTS + 1)]
    pieces = list(itertools.pairwise(edges))
    return Curve(
        name=curve.name,
        steps=[_mean(curve.steps[start:end]) for start, end in pieces],
        values=[_mean(curve.values[start:end]) for start, end in pieces],
        is_measured=curve.is_measured,
        is_faint=curve.is_faint,
    )


def _colours(curves: Sequence[Curve]) -> Iterator[str]:
    number = 0
    for one in curves:
        yield f"c{number % _NUM_COLORS}"
        number += not one.is_faint


def _line(curve: Curve, colour: str, x: Scale, y: Scale) -> str:
    places = [f"{x.at(step):.1f} {y.at(value):.1f}" for step, value in zip(curve.steps, curve.values, strict=True)]
    drawn = f'<path d="M{"L".join(places)}"{" class=faint" if curve.is_faint else ""} />'
    if curve.is_measured or len(places) == 1:
        drawn += "".join(
            f'<circle cx="{x.at(step):.1f}" cy="{y.at(value):.1f}" r="3"><title>step {step:g}: {value:.4g}</title>'
            "</circle>"
            for step, value in zip(curve.steps, curve.values, strict=True)
        )
    return f'<g class="{colour}">{drawn}</g>'


def _grid(x: Scale, y: Scale, width: int, height: int) -> str:
    parts = [f'<text x="{_LEFT - 6}" y="{height - 5}" text-anchor="end">step</text>']
    for value, said in ticks(y.low, y.high, most=5):
        place = f"{y.at(value):.1f}"
        parts.append(f'<line x1="{_LEFT}" x2="{width - _RIGHT}" y1="{place}" y2="{place}" />')
        parts.append(f'<text x="{_LEFT - 6}" y="{place}" dy="4" text-anchor="end">{said}</text>')
    for step, said in ticks(x.low, x.high, most=max(2, width // 90)):
        if math.isclose(step, round(step)):
            parts.append(f'<text x="{x.at(step):.1f}" y="{height - 5}" text-anchor="middle">{said}</text>')
    return "".join(parts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
