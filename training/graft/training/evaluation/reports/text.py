"""An evaluation for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from graft.training.evaluation.reports.summary import figure, pairs
from graft.training.evaluation.running.outcome import Outcome


def text(outcomes: Sequence[Outcome]) -> str:
    """A line for each figure, then the differences."""
    width = max(len(one.task.name) for one in outcomes) + 2
    models = max(len(one.model) for one in outcomes) + 2
    settings = max(len(str(one.setting)) for one in outcomes) + 2
    lines = []
    for one in outcomes:
        for key in one.keys:
            name = key.removesuffix(",none")
            head = f"{one.task.name:<{width}}{one.model:<{models}}{one.setting!s:<{settings}}{name:<22}"
            lines.append(f"{head}{figure(one, key)}  of {len(one.records)}{_refused(one)}{_unanswered(one)}")
    found = pairs(outcomes)
    if found:
        lines.append("")
    for pair in found:
        compared = pair.comparison
        lines.append(
            f"{pair.task}: {pair.candidate} − {pair.baseline} = {100 * compared.difference:+.1f} points "
            f"[{100 * compared.low:+.1f}, {100 * compared.high:+.1f}], p = {compared.p_value:.3g} ({compared.test})"
        )
    return "\n".join(lines)


def _refused(one: Outcome) -> str:
    if not one.num_refused:
        return ""
    problem = next(record.problem for record in one.records if record.problem)
    return f"; {one.num_refused} could not be asked or judged and count as wrong ({problem[:160]})"


def _unanswered(one: Outcome) -> str:
    if not (found := one.unanswered):
        return ""
    return f"; {len(found)} ended without an answer and count as wrong ({found[0].reason[:160]})"
