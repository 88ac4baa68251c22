"""What a gate measured, as the server decides by it."""

from __future__ import annotations

from collections.abc import Sequence

from graft.training.errors import DataError
from graft.training.evaluation.gate import MIN_QUESTIONS
from graft.training.evaluation.statistics.intervals import mean_of
from graft.training.evaluation.statistics.pairs import compare
from graft.v1 import release_pb2 as pb

SEED = 0


def report_of(
    metric: str,
    *,
    candidate: Sequence[float | None],
    base: Sequence[float | None],
    stable: Sequence[float | None] | None,
    stable_digest: str,
    is_loss: bool = False,
    own_over_others: Sequence[float | None] = (),
) -> pb.GateReport:
    """By marks of the same rows; those that one of the models could not be asked count for none.

    ``is_loss``: the marks are negative losses, and the loss is what is shown. A gain is positive where the candidate is
    better, its interval a paired bootstrap's. Raises DataError where no row is left.
    """
    columns = [candidate, base, *([] if stable is None else [stable])]
    kept = [marks for marks in zip(*columns, strict=True) if None not in marks]
    if not kept:
        raise DataError("none of the held-out rows could be asked of all models: they are too long for the context.")
    own, of_base, *of_stable = [list(map(float, column)) for column in zip(*kept, strict=True)]
    report = pb.GateReport(
        metric=metric,
        higher_is_better=not is_loss,
        num_questions=len(kept),
        candidate=_figure(own, is_loss),
        base=_comparison(own, of_base, "", is_loss),
    )
    fits = [gain for gain in own_over_others if gain is not None]
    if len(fits) >= MIN_QUESTIONS:
        report.own_over_others.CopyFrom(_figure(fits, is_loss=False))
    if of_stable:
        report.stable.CopyFrom(_comparison(own, of_stable[0], stable_digest, is_loss))
    return report


def _comparison(own: list[float], other: list[float], digest: str, is_loss: bool) -> pb.GateComparison:
    found = compare(other, own, seed=SEED)
    gain = pb.GateFigure(value=found.difference, low=found.low, high=found.high)
    return pb.GateComparison(version_digest=digest, score=_figure(other, is_loss), gain=gain)


def _figure(marks: list[float], is_loss: bool) -> pb.GateFigure:
    found = mean_of(marks, seed=SEED)
    if is_loss:
        return pb.GateFigure(value=-found.mean, low=-found.high, high=-found.low)
    return pb.GateFigure(value=found.mean, low=found.low, high=found.high)
