"""The tour as one HTML page: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any

from graft.training.tour.chapter import Chapter
from graft.training.tour.text import claim_text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre { background: #f4f4f2; padding: .6rem .8rem; overflow-x: auto; font-size: .85rem }
.held { color: #1a6b2f } .not { color: #a3261b } td { padding: 0 1.5rem 0 0 } svg { max-width: 100%; height: auto }
"""


def html(chapters: Sequence[Chapter], *, base: str) -> str:
    """The page. The same chapters make the same text."""
    claims = [claim for chapter in chapters for claim in chapter.claims]
    num_held = sum(claim.held for claim in claims)
    body = "".join(_chapter(number, chapter) for number, chapter in enumerate(chapters, start=1))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Prompting: a tour</title>'
        f"<style>{STYLE}</style></head><body><h1>Prompting: a tour</h1>"
        f"<p>Base: {escape(base)}. {num_held} of {len(claims)} claims held; intervals are of 95 %. A claim held where "
        f"its whole interval reaches the bound.</p>{body}</body></html>\n"
    )


def _chapter(number: int, chapter: Chapter) -> str:
    parts = [f"<h2>{number}. {escape(chapter.title)}</h2><p>{escape(chapter.lecture)}</p>"]
    for one in chapter.examples:
        said = f"{one.prompt}▸{one.said}" + ("" if one.said == one.right else f"\n(right: {one.right})")
        parts.append(f"<pre>{escape(said)}</pre>")
    rows = [
        f"<tr><td>{escape(name)}</td><td>{figure.value:.1f} {escape(figure.unit)}</td></tr>"
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
    """Means with the runs as dots, as SVG."""
    import matplotlib
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context({"svg.hashsalt": "graft", "svg.fonttype": "none"}):
        drawing: Any = Drawing(figsize=(6, 3), layout="constrained")
        plot = drawing.subplots()
        for place, name in enumerate(chapter.curve):
            figure = chapter.figures[name]
            plot.bar(place, figure.value, width=0.6, color="#7aa6c2")
            plot.plot([place] * len(figure.runs), figure.runs, "o", color="#333", markersize=3)
        plot.set_xticks(range(len(chapter.curve)), [name.replace("_", " ") for name in chapter.curve])
        plot.set_ylabel("percent right")
        plot.set_ylim(0, 105)
        file = io.StringIO()
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()[file.getvalue().index("<svg") :]
