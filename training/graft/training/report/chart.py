"""Curves over the steps of a training, as SVG that a page holds."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

GREY = "#888888"
"""Of axes and letters: it is read on white and on black."""
_COLORS = ("#2a9d5c", "#d1495b", "#3d7ea6", "#c58b1b", "#8a62a8", "#5b8c8c")
MAX_POINTS = 600
"""Of a curve: a page of a long training stays small."""


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


def chart(curves: Sequence[Curve], *, unit: str) -> str:
    """``<svg>…</svg>``. The same curves make the same text."""
    with drawing(height=3.2) as (plot, svg):
        colors = itertools.cycle(_COLORS)
        color = next(colors)
        for one in map(thinned, curves):
            style: dict[str, Any] = {"marker": "o", "markersize": 4} if one.is_measured else {}
            style |= {"alpha": 0.35, "linewidth": 0.8} if one.is_faint else {"linewidth": 1.6}
            plot.plot(one.steps, one.values, label=one.name, color=color, **style)
            color = color if one.is_faint else next(colors)
        plot.set_xlabel("step")
        plot.set_ylabel(unit)
        plot.grid(alpha=0.25)
        if len(curves) > 1:
            plot.legend(frameon=False, labelcolor=GREY)
        return svg()


@contextlib.contextmanager
def drawing(*, height: float) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Axes of matplotlib to draw on, ``height`` inches high and eight wide, and what makes ``<svg>…</svg>`` of them."""
    import matplotlib
    from matplotlib.figure import Figure

    options = {"svg.hashsalt": "graft", "svg.fonttype": "none"}
    options |= {f"{part}.color": GREY for part in ("text", "xtick", "ytick", "grid")}
    options |= {"axes.edgecolor": GREY, "axes.labelcolor": GREY}
    with matplotlib.rc_context(options):
        figure: Any = Figure(figsize=(8, height), layout="constrained")

        def svg() -> str:
            file = io.StringIO()
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            return file.getvalue()[file.getvalue().index("<svg") :]

        yield figure.subplots(), svg


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


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
