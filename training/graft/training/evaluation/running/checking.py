"""An answer against a question's checks."""

from __future__ import annotations

from graft.training.evaluation.asking.model import Model, Refused
from graft.training.evaluation.checks.check import JUDGED, Check, Verdict, decide, total
from graft.training.evaluation.checks.judging import Unjudged, judge_answer
from graft.training.evaluation.running.outcome import Record
from graft.training.evaluation.tasks.task import Question

PASSED, SCORE = "pass,none", "score,none"


def check_record(question: Question, index: int, said: str, judge: Model | None) -> Record:
    """``pass`` is 1 where the checks held; ``score`` is their weighted mean."""
    try:
        verdicts = tuple(_verdict(check, said, judge) for check in question.checks)
    except (Refused, Unjudged) as problem:
        marks = {PASSED: 0.0, SCORE: 0.0}
        return Record(index=index, said=(said,), answer=said, marks=marks, problem=f"not judged: {problem}")
    whole = total(question.checks, verdicts, question.threshold)
    return Record(
        index=index,
        said=(said,),
        answer=said,
        right=question.targets,
        marks={PASSED: float(whole.passed), SCORE: whole.score},
        reason=whole.reason,
    )


def _verdict(check: Check, said: str, judge: Model | None) -> Verdict:
    if check.kind not in JUDGED:
        return decide(check, said)
    if judge is None:
        raise Unjudged("no judge was named")
    return judge_answer(check, said, judge)
