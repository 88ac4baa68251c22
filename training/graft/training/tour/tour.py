"""The tour: every chapter in order, and all that was found as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from graft.training.errors import ConfigurationError
from graft.training.tour.chapter import Chapter
from graft.training.tour.chapters import calibration, choosing, continuing, reasoning, sources
from graft.training.tour.classroom import Classroom
from graft.training.tour.figure import Figure
from graft.training.tour.progress import tell

CHAPTERS: Mapping[str, Callable[[Classroom], Chapter]] = {
    "examples": continuing.examples_in_the_prompt,
    "lexicon": continuing.invented_lexicon,
    "dates": continuing.date_formats,
    "unscrambling": continuing.unscrambling,
    "inference": choosing.premise_and_hypothesis,
    "reasoning": reasoning.steps_against_direct,
    "votes": reasoning.votes,
    "calibration": calibration.calibration,
    "nearest": continuing.nearest_examples,
    "sources": sources.citations,
}


def chosen(names: Sequence[str]) -> list[str]:
    """The chapters of these names in the tour's order; all, where none is named. Raises ``ConfigurationError``."""
    for name in names:
        if name not in CHAPTERS:
            raise ConfigurationError(f"there is no chapter {name!r}: {', '.join(CHAPTERS)}.")
    return [name for name in CHAPTERS if name in names or not names]


def walk(room: Classroom, names: Sequence[str]) -> Iterator[Chapter]:
    """Chapter by chapter, as they are measured. Raises GraftClientError."""
    for number, name in enumerate(names, start=1):
        tell(f"Chapter {number} of {len(names)}: {name} …")
        chapter = CHAPTERS[name](room)
        room.tidy()
        yield chapter


def found(chapters: Sequence[Chapter], *, missing: Sequence[str] = ()) -> dict[str, Any]:
    """Every figure by its name (``value``, ``unit``, ``runs``), the number of claims and of those that held, and below
    ``chapters`` the figures' intervals, and what each claim says with its own. Where a tour broke off,
    ``chapters_missing`` names those to which it did not come.
    """
    claims = [claim for chapter in chapters for claim in chapter.claims]
    held = [claim for claim in claims if claim.held]
    figures = {name: figure for chapter in chapters for name, figure in chapter.figures.items()}
    figures |= {"claims": _number(len(claims)), "claims_held": _number(len(held))}
    told = [
        {
            "title": chapter.title,
            "figures": {name: figure.interval for name, figure in chapter.figures.items()},
            "claims": [{**asdict(claim), "held": claim.held} for claim in chapter.claims],
            "remark": chapter.remark,
        }
        for chapter in chapters
    ]
    broken_off = {"chapters_missing": list(missing)} if missing else {}
    return {**{name: _plain(figure) for name, figure in figures.items()}, "chapters": told, **broken_off}


def _plain(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "unit": figure.unit, "runs": figure.runs}


def _number(count: int) -> Figure:
    return Figure(value=float(count), unit="claims", runs=(float(count),))
