"""What a base and what was made of it answer to the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graft.training.report.page import Section, paragraph, table


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt, drawn greedily from both."""

    prompt: str
    before: str
    after: str
    expected: str | None = None
    """What the row says."""


def section(examples: Sequence[Example], *, remark: str = "") -> Section:
    """Side by side. ``remark`` says why there are none, or how they were chosen."""
    body = paragraph(remark, kind="quiet") if remark else ""
    if examples:
        has_expected = any(one.expected is not None for one in examples)
        head = ["prompt", *(["expected"] if has_expected else []), "before", "after"]
        rows = [
            [one.prompt, *([one.expected or ""] if has_expected else []), one.before, one.after] for one in examples
        ]
        body += table(head, rows)
    return Section(title="Examples, before and after", body=body)
