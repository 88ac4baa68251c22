"""An audit as a page: one HTML file without scripts, for light and dark screens."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from graft.training.finetune.audit.audit import Audit, FileAudit, ShownExample
from graft.training.report.page import Section, definitions, page, paragraph, table


def html(audit: Audit) -> str:
    verdict = (
        "A training would begin." if audit.is_sound else "No training would begin: rows are refused, or none is left."
    )
    examples = "".join(map(_example, audit.examples))
    shown = Section(
        title="The first examples",
        body=paragraph("Marked is what carries loss.", kind="quiet") + examples,
    )
    sections = [Section(title=str(file.path), body="".join(_file(file))) for file in audit.files]
    return page(f"What a fine-tuning of {audit.base} would learn", verdict, [*sections, shown])


def _file(file: FileAudit) -> Iterator[str]:
    learned = file.num_learned / file.num_tokens if file.num_tokens else 0.0
    yield definitions(
        {
            "rows": f"{file.num_rows:,}",
            **({"share of each epoch": f"{file.weight:g}"} if file.weight is not None else {}),
            "examples": f"{file.num_examples:,}",
            "tokens": f"{file.num_tokens:,}",
            "of which carry loss": f"{file.num_learned:,} ({learned:.1%})",
        }
    )
    most = max((num for _, num in file.lengths), default=1)
    yield table(
        ("tokens of an example", "examples", ""),
        [(f"up to {length:,}", num, "█" * -(-num * 40 // most)) for length, num in file.lengths],
    )
    for note in file.notes:
        yield paragraph(note, kind="quiet")
    for what, rows in (("refused", file.refused), ("dropped", file.dropped), ("cut", file.cut)):
        if rows:
            yield paragraph(f"{len(rows)} rows are {what}:", kind="bad" if what == "refused" else "")
            yield table((file.unit, "reason"), rows)
    if file.held_out:
        numbers = ", ".join(map(str, file.held_out))
        yield paragraph(f"{len(file.held_out)} rows are also measured on, which flatters: {file.unit}s {numbers}.")


def _example(example: ShownExample) -> str:
    text = "".join(
        f"<mark>{escape(piece)}</mark>" if is_learned else f'<span class="quiet">{escape(piece)}</span>'
        for piece, is_learned in example.pieces
    )
    return f"{paragraph(f'{example.path}, {example.number}')}<pre>{text}</pre>"
