"""The tour as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any

from graft.training.tour.chapter import Chapter
from graft.training.tour.figure import Figure
from graft.training.tour.text import claim_text, figure_text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f4f4f2; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem }
.held { color: #1a6b2f } .not { color: #a3261b } td { padding: 0 1.5rem 0 0 } svg { max-width: 100%; height: auto }
"""


def html(chapters: Sequence[Chapter], *, base: str, missing: Sequence[str] = ()) -> str:
    """The page. The same chapters make the same text; ``missing`` are names of those to which a tour did not come."""
    claims = [claim for chapter in chapters for claim in chapter.claims]
    num_held = sum(claim.held for claim in claims)
    body = "".join(_chapter(number, chapter) for number, chapter in enumerate(chapters, start=1))
    broken_off = f'<p class="not">The tour broke off: {escape(", ".join(missing))} missing.</p>' if missing else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Prompting: a tour</title>'
        f"<style>{STYLE}</style></head><body><h1>Prompting: a tour</h1>"
        f"<p>Base: {escape(base)}. {num_held} of {len(claims)} claims held; intervals are of 95 %. A claim held where "
        f"its whole interval reaches the bound.</p>{broken_off}{body}</body></html>\n"
    )


def _chapter(number: int, chapter: Chapter) -> str:
    parts = [f"<h2>{number}. {escape(chapter.title)}</h2><p>{escape(chapter.lecture)}</p>"]
    for one in chapter.examples:
        said = f"{one.prompt}▸{one.said}" + ("" if one.said == one.right else f"\n(right: {one.right})")
        parts.append(f"<pre>{escape(said)}</pre>")
    rows = [
        f"<tr><td>{escape(name)}</td><td>{escape(figure_text(figure))}</td></tr>"
        for name, figure in chapter.figures.items()
    ]
    parts.append(f"<table>{''.join(rows)}</table>")
    if chapter.curve:
        parts.append(_picture(chapter))
    for claim in chapter.claims:
        parts.append(f'<p class="{"held" if claim.held else "not"}">{escape(claim_text(claim))}</p>')
    if chapter.remark:
        parts.append(f"<p>{escape(chapter.remark)}</p>")
    return "".join(parts)


def _picture(chapter: Chapter) -> str:
    """As SVG: figures as bars, their intervals as whiskers, their runs as dots."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    figures = [chapter.figures[name] for name in chapter.curve]
    with matplotlib.rc_context({"svg.hashsalt": "graft", "svg.fonttype": "none"}):
        drawing: Any = Drawing(figsize=(7, 3), layout="constrained")
        plot = drawing.subplots()
        for place, figure in enumerate(figures):
            plot.bar(place, figure.value, width=0.6, color="#7aa6c2", yerr=_whiskers(figure), capsize=4)
            plot.plot([place + 0.2] * len(figure.runs), figure.runs, "o", color="#333", markersize=3)
        plot.set_xticks(range(len(figures)), [_label(name) for name in chapter.curve], fontsize=8)
        plot.set_ylabel("percent right" if figures[0].unit == "percent" else figures[0].unit)
        plot.set_ylim(0, 105 if figures[0].unit == "percent" else None)
        file = io.StringIO()
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
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
