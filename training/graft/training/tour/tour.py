"""The tour: every chapter in order, and all that was found as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from graft.training.tour.chapter import Chapter
from graft.training.tour.chapters import choosing, continuing, reasoning, sources
from graft.training.tour.claim import Figure
from graft.training.tour.classroom import Classroom

CHAPTERS: tuple[Callable[[Classroom], Chapter], ...] = (
    continuing.examples_in_the_prompt,
    continuing.invented_lexicon,
    continuing.date_formats,
    continuing.unscrambling,
    choosing.premise_and_hypothesis,
    reasoning.steps_against_direct,
    reasoning.votes,
    choosing.calibration,
    continuing.nearest_examples,
    sources.citations,
)


def walk(room: Classroom) -> Iterator[Chapter]:
    """Chapter by chapter, as they are measured. Raises GraftClientError."""
    return (chapter(room) for chapter in CHAPTERS)


def found(chapters: Sequence[Chapter]) -> dict[str, Any]:
    """Every figure by its name (``value``, ``unit``, ``runs``), the number of claims and of those that held, and below
    ``chapters`` what each claim says with its interval.
    """
    claims = [claim for chapter in chapters for claim in chapter.claims]
    held = [claim for claim in claims if claim.held]
    figures = {name: figure for chapter in chapters for name, figure in chapter.figures.items()}
    figures |= {"claims": _number(len(claims)), "claims_held": _number(len(held))}
    told = [
        {
            "title": chapter.title,
            "figures": list(chapter.figures),
            "claims": [{**asdict(claim), "held": claim.held} for claim in chapter.claims],
            "remark": chapter.remark,
        }
        for chapter in chapters
    ]
    return {**{name: asdict(figure) for name, figure in figures.items()}, "chapters": told}


def _number(count: int) -> Figure:
    return Figure(value=float(count), unit="claims", runs=(float(count),))
