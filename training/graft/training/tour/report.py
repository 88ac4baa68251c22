"""The tour as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from graft.training.report.page import Section, definitions, page, paragraph, verbatim
from graft.training.tour.chapter import Chapter
from graft.training.tour.figure import Figure
from graft.training.tour.text import claim_text, figure_text

_GREY = "#888888"
"""Of axes and letters: it is read on white and on black."""
_STYLE = {
    **{f"{part}.color": _GREY for part in ("text", "xtick", "ytick", "grid")},
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "svg.hashsalt": "graft",
    "svg.fonttype": "none",
}


def html(chapters: Sequence[Chapter], *, base: str, missing: Sequence[str] = ()) -> str:
    """The page. The same chapters make the same text; ``missing`` are names of those to which a tour did not come."""
    claims = [claim for chapter in chapters for claim in chapter.claims]
    num_held = sum(claim.held for claim in claims)
    lead = (
        f"Base: {base}. {num_held} of {len(claims)} claims held; intervals are of 95 %. A claim held where its whole "
        "interval reaches the bound."
    )
    if missing:
        lead += f" The tour broke off: {', '.join(missing)} missing."
    return page("Prompting: a tour", lead, [_chapter(number, one) for number, one in enumerate(chapters, start=1)])


def _chapter(number: int, chapter: Chapter) -> Section:
    parts = [paragraph(chapter.lecture)]
    for one in chapter.examples:
        said = f"{one.prompt}▸{one.said}" + ("" if one.said == one.right else f"\n(right: {one.right})")
        parts.append(verbatim(said))
    parts.append(definitions({name: figure_text(figure) for name, figure in chapter.figures.items()}))
    if chapter.curve:
        parts.append(_picture(chapter))
    parts += [paragraph(claim_text(claim), kind="good" if claim.held else "bad") for claim in chapter.claims]
    if chapter.remark:
        parts.append(paragraph(chapter.remark))
    return Section(title=f"{number}. {chapter.title}", body="".join(parts))


def _picture(chapter: Chapter) -> str:
    """As SVG: figures as bars, their intervals as whiskers, their runs as dots."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    figures = [chapter.figures[name] for name in chapter.curve]
    with matplotlib.rc_context(_STYLE):
        drawing: Any = Drawing(figsize=(8, 3.4), layout="constrained")
        plot = drawing.subplots()
        for place, figure in enumerate(figures):
            plot.bar(place, figure.value, width=0.6, color="#7aa6c2", yerr=_whiskers(figure), capsize=4, ecolor=_GREY)
            plot.plot([place + 0.2] * len(figure.runs), figure.runs, "o", color=_GREY, markersize=3)
        plot.set_xticks(range(len(figures)), [_label(name) for name in chapter.curve], fontsize=8)
        plot.set_ylabel("percent right" if figures[0].unit == "percent" else figures[0].unit)
        plot.set_ylim(0, 105 if figures[0].unit == "percent" else None)
        file = io.StringIO()
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _whiskers(figure: Figure) -> list[list[float]] | None:
    """Lengths below and above the value."""
    if figure.interval is None:
        return None
    low, high = figure.interval
    return [[max(0.0, figure.value - low)], [max(0.0, high - figure.value)]]


def _label(name: str) -> str:
    """A name over as many lines as it has words, where these are many."""
    words = name.split("_")
    return ("\n" if len(words) > 2 else " ").join(words)
