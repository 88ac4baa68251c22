"""What a base and what was made of it answer to the same prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from graft.training.report.page import Section, paragraph, verbatim


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt, drawn greedily from both."""

    prompt: str
    row_says: Mapping[str, str]
    """By what it is called there."""
    before: str | None = None
    """What the base said, where it can still be asked."""
    after: str | None = None


def section(examples: Sequence[Example], *, remark: str = "") -> Section:
    """One below the other. ``remark`` says why there are none, or how they were chosen."""
    told = paragraph(remark, kind="quiet") if remark else ""
    return Section(title="Examples", body=told + "".join(map(_example, examples)))


def _example(example: Example) -> str:
    return f'<article>{verbatim(example.prompt)}<div class="answers">{"".join(_answers(example))}</div></article>'


def _answers(example: Example) -> Iterator[str]:
    for name, text in example.row_says.items():
        yield _answer(name, text)
    if example.before is not None:
        yield _answer("before", example.before)
    if example.after is not None:
        yield _answer("after", example.after, kind="after")


def _answer(name: str, text: str, *, kind: str = "") -> str:
    return f'<div class="{kind}"><h4>{escape(name)}</h4><p>{escape(text)}</p></div>'
