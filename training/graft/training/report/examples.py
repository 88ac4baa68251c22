"""What a base and what was made of it answer to the same prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graft.training.report.page import Section, paragraph, table


@dataclass(frozen=True, kw_only=True)
class Example:
    """One prompt, drawn greedily from both."""

    prompt: str
    after: str
    before: str | None = None
    """What the base said, where it can still be asked."""
    expected: str | None = None
    """What the row says."""


def section(examples: Sequence[Example], *, remark: str = "") -> Section:
    """Side by side. ``remark`` says why there are none, or how they were chosen."""
    body = paragraph(remark, kind="quiet") if remark else ""
    if examples:
        values = {name: [getattr(one, name) for one in examples] for name in ("prompt", "expected", "before", "after")}
        shown = [name for name, column in values.items() if any(value is not None for value in column)]
        body += table(shown, zip(*(values[name] for name in shown), strict=True))
    return Section(title="Examples", body=body)
