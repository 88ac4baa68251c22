"""An audit as a page: one HTML file without scripts, for light and dark screens; and as parts of another page."""

from __future__ import annotations

from collections.abc import Iterator

from graft.training.finetune.audit.audit import Audit, FileAudit, Numbered
from graft.training.report.masks import MAX_SHOWN, MarkedRow, bounded, marked
from graft.training.report.page import Section, definitions, folded, heading, page, paragraph, table

MAX_LISTED = 20
"""Rows of one reason's list on a training's page; the audit's own has all."""


def html(audit: Audit) -> str:
    verdict = (
        "A training would begin." if audit.is_sound else "No training would begin: rows are refused, or none is left."
    )
    rows = [MarkedRow(title=f"{one.path}, {one.number}", pieces=one.pieces) for one in audit.examples]
    sections = [Section(title=str(file.path), body="".join(_file(file))) for file in audit.files]
    shown = Section(title="The first examples", body=marked(rows))
    return page(f"What a fine-tuning of {audit.base} would learn", verdict, [*sections, shown])


def learned(audit: Audit, *, num_held_out: int) -> Section:
    """What a training learned from, as a section of a bounded size. ``num_held_out`` of the examples were not."""
    parts = []
    for file in audit.files:
        parts += [heading(str(file.path)), *_file(file, most=MAX_LISTED)]
    if num_held_out:
        parts.append(paragraph(f"{num_held_out:,} of the examples were held out, and not learned."))
    rows = [
        MarkedRow(title=f"{one.path.name}, {one.number}", pieces=bounded(one.pieces))
        for one in audit.examples[:MAX_SHOWN]
    ]
    parts.append(folded("Which tokens carry loss, in the first rows", marked(rows), is_open=True))
    return Section(title="What it learned from", body="".join(parts))


def _file(file: FileAudit, *, most: int | None = None) -> Iterator[str]:
    """``most`` rows of each list, if not all."""
    share = file.num_learned / file.num_tokens if file.num_tokens else 0.0
    yield definitions(
        {
            "rows": f"{file.num_rows:,}",
            **({"share of each epoch": f"{file.weight:g}"} if file.weight is not None else {}),
            "examples": f"{file.num_examples:,}",
            "tokens": f"{file.num_tokens:,}",
            "of which carry loss": f"{file.num_learned:,} ({share:.1%})",
        }
    )
    highest = max((num for _, num in file.lengths), default=1)
    yield table(
        ("tokens of an example", "examples", ""),
        [(f"up to {length:,}", num, "█" * -(-num * 40 // highest)) for length, num in file.lengths],
    )
    for note in file.notes:
        yield paragraph(note, kind="quiet")
    for what, rows in (("refused", file.refused), ("dropped", file.dropped), ("cut", file.cut)):
        if rows:
            yield _listed(what, rows, file.unit, most)
    if file.held_out:
        numbers = ", ".join(map(str, file.held_out[:most])) + (
            " …" if len(file.held_out[:most]) < len(file.held_out) else ""
        )
        yield paragraph(f"{len(file.held_out)} rows are also measured on, which flatters: {file.unit}s {numbers}.")


def _listed(what: str, rows: tuple[Numbered, ...], unit: str, most: int | None) -> str:
    told = f"{len(rows):,} rows are {what}"
    if most is None:
        return paragraph(f"{told}:", kind="bad" if what == "refused" else "") + table((unit, "reason"), rows)
    rest = paragraph(f"… and {len(rows) - most:,} more", kind="quiet") if len(rows) > most else ""
    return folded(told, table((unit, "reason"), rows[:most]) + rest)
