"""A page that people look at: one HTML file, no script, nothing loaded from elsewhere, for light and dark screens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from graft.training.report.style import STYLE


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, and HTML below it."""

    title: str
    body: str


def page(title: str, lead: str, sections: Iterable[Section]) -> str:
    """The whole file; ``title`` and ``lead`` are plain text. The same sections make the same text."""
    listed = list(enumerate(sections))
    links = "".join(f'<a href="#s{number}">{escape(one.title)}</a>' for number, one in listed)
    body = "".join(f'<h2 id="s{number}">{escape(one.title)}</h2>{one.body}' for number, one in listed)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><p>{escape(lead)}</p><nav>{links}</nav>{body}</body></html>\n"
    )


def heading(text: str) -> str:
    """Of a part of a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str, *, kind: str = "") -> str:
    """``kind`` is ``quiet``, ``good``, ``bad``, or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def verbatim(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def folded(summary: str, body: str, *, is_open: bool = False) -> str:
    """HTML that opens and closes at a click on its one line."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def tiles(values: Mapping[str, str]) -> str:
    """Figures by their names, side by side; what stands in parentheses behind one is its remark."""
    return f'<div class="tiles">{"".join(_tile(name, value) for name, value in values.items())}</div>'


def _tile(name: str, value: str) -> str:
    figure, _, remark = value.partition(" (")
    told = f"<small>{escape(remark.removesuffix(')'))}</small>" if remark else ""
    return f"<div><h4>{escape(name)}</h4><b>{escape(figure)}</b>{told}</div>"


def definitions(values: Mapping[str, object]) -> str:
    """Names and what they are, in two columns."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Numbers stand to the right; everything else is text, and blocks alone (█) are a bar."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{heads}</tr>{body}</table></div>'


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (
            f'<td class="number">{value:,.4g}</td>'
            if isinstance(value, float)
            else f'<td class="number">{value:,}</td>'
        )
    text = str(value)
    kind = " class=bar" if text and not text.strip("█") else ""
    return f"<td{kind}>{escape(text)}</td>"
