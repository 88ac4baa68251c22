"""A page that people look at: one HTML file, no script, nothing loaded from elsewhere, for light and dark screens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light dark; --text: #222; --quiet: #666; --back: #fff; --box: #f4f4f2; --line: #ddd;
  --good: #1a6b2f; --bad: #a3261b }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --quiet: #999; --back: #17181a; --box: #212327; --line: #3a3c40; --good: #6bbf80;
    --bad: #e5786d }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--back) }
h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line) }
table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid var(--line);
  white-space: pre-wrap; overflow-wrap: anywhere }
th { font-weight: 500; color: var(--quiet); white-space: nowrap }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
pre { background: var(--box); padding: .6rem .8rem; font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere }
svg { width: 100%; height: auto }
.wide { overflow-x: auto } .quiet { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
"""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading, and HTML below it."""

    title: str
    body: str


def page(title: str, lead: str, sections: Iterable[Section]) -> str:
    """The whole file; ``title`` and ``lead`` are plain text. The same sections make the same text."""
    body = "".join(f"<h2>{escape(one.title)}</h2>{one.body}" for one in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1><p>{escape(lead)}</p>{body}</body></html>\n"
    )


def paragraph(text: str, *, kind: str = "") -> str:
    """``kind`` is ``quiet``, ``good``, ``bad``, or nothing."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def verbatim(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def definitions(values: Mapping[str, object]) -> str:
    """Names and what they are, in two columns."""
    rows = (f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Numbers stand to the right; everything else is text."""
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
    return f"<td>{escape(str(value))}</td>"
