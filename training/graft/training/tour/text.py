"""The tour for a terminal."""

from __future__ import annotations

from graft.training.tour.chapter import Chapter
from graft.training.tour.claim import Claim
from graft.training.tour.figure import Figure


def chapter_text(number: int, chapter: Chapter) -> str:
    """Title, what the lecture says, an example, figures, claims."""
    lines = [f"{number}. {chapter.title}", f"   {chapter.lecture}"]
    for one in chapter.examples:
        last = one.prompt.splitlines()[-1:] or [""]
        lines.append(f"   … {last[0]} ⇒ {one.said}" + ("" if one.said == one.right else f"   (right: {one.right})"))
    lines += [f"   {name:<36}{figure_text(figure)}" for name, figure in chapter.figures.items()]
    lines += [f"   {claim_text(claim)}" for claim in chapter.claims]
    return "\n".join([*lines, f"   {chapter.remark}"] if chapter.remark else lines)


def claim_text(claim: Claim) -> str:
    """One line."""
    unit = _unit(claim.unit)
    return (
        f"{'HELD    ' if claim.held else 'NOT HELD'} {claim.says} {claim.value:.1f} {unit} "
        f"[{claim.low:.1f}, {claim.high:.1f}], to be {claim.relation} {claim.bound:.0f} "
        f"({claim.method}, n = {claim.num})"
    )


def figure_text(figure: Figure) -> str:
    """The value with its unit and, where it has one, its interval."""
    interval = "" if figure.interval is None else f" [{figure.interval[0]:.1f}, {figure.interval[1]:.1f}]"
    return f"{figure.value:.1f} {_unit(figure.unit)}{interval}"


def _unit(unit: str) -> str:
    return "%" if unit == "percent" else unit
