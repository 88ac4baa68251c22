"""One chapter of the tour as a value: what a lecture says, an example, figures and claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from graft.training.tour.claim import Claim
from graft.training.tour.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Example:
    """A question as the base read it and what it said, beside what is right."""

    prompt: str
    said: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """``figures`` are by name; ``remark`` says what the figures cannot."""

    title: str
    lecture: str
    figures: Mapping[str, Figure]
    claims: tuple[Claim, ...]
    examples: tuple[Example, ...] = ()
    remark: str = ""
    curve: tuple[str, ...] = field(default=())
    """Names of the figures that are drawn, in this order."""
