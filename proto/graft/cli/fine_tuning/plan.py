"""What a dry run has found, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graft.cli.fine_tuning.texts import duration
from graft.machine.control_characters import harmless

if TYPE_CHECKING:
    from graft.cli.plots.chart import Style
    from graft.v1 import job_pb2

_LEARNED = "32"
_MAX_CHARACTERS = 600


def plan_text(plan: job_pb2.JobPlan, style: Style) -> str:
    """Its cost, its notes, the first examples: what is learned is green, or in brackets where there is no colour."""
    takes = f", {duration(plan.duration.ToTimedelta().total_seconds())}" if plan.HasField("duration") else ""
    lines = [
        f"{plan.num_steps:,} steps, {plan.trained_tokens:,} tokens{takes}",
        f"{plan.num_rows:,} rows make {plan.num_examples:,} examples of {plan.num_tokens:,} tokens, "
        f"of which {plan.num_learned_tokens:,} are learned",
    ]
    if plan.num_cut or plan.num_dropped:
        lines.append(f"cut for their length: {plan.num_cut:,} examples; left out: {plan.num_dropped:,} rows")
    lines += [f"note: {harmless(note)}" for note in plan.notes]
    for example in plan.examples:
        lines.append(f"line {example.row}: {_example(example, style)}")
    return "\n".join(lines)


def _example(example: job_pb2.PlannedExample, style: Style) -> str:
    parts, left = [], _MAX_CHARACTERS
    for piece in example.pieces:
        text = harmless(piece.text[:left]).replace("\n", "\\n")
        left -= len(piece.text[:left])
        marked = style.paint(text, _LEARNED) if style.colours else f"[{text}]"
        parts.append(marked if piece.is_learned else text)
        if left <= 0:
            return "".join([*parts, " ..."])
    return "".join(parts)
