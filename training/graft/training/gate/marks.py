"""What each model scores on each held-out row, by the running server. Marks are such that higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graft.client import Client, InvalidArgument
from graft.client.fine_tuning.values import values_of
from graft.client.grading import Observation
from graft.training.errors import DataError
from graft.training.evaluation.asking.side_by_side import each
from graft.training.gate.rows import Row
from graft.v1 import job_pb2

_NUM_STREAMS, _GRADED_AT_ONCE = 8, 128
_MAX_ANSWER_TOKENS, _SPARE_TOKENS = 256, 16

Marks = list[float | None]
"""In the rows' order; None for a row that the server does not take, most often because it is too long."""


def marks_by_log_probability(client: Client, rows: Sequence[Row]) -> Callable[[str], Marks]:
    """For a model: the mean log-probability of each row's answer tokens, in nats. Raises DataError without answers."""
    asked = [row for row in rows if row.answer]
    if len(asked) < len(rows):
        missing = next(row.line for row in rows if not row.answer)
        raise DataError(f"line {missing} of the held-out rows has no answer whose probability could be measured.")

    def marks(model: str) -> Marks:
        def one(row: Row) -> float | None:
            try:
                score = client.score(_wire(row), [row.answer or ""], model=model).scores[0]
            except InvalidArgument:
                return None
            return score.logprob / max(1, len(score.tokens))

        return each(one, asked, num_streams=_NUM_STREAMS)

    return marks


def gains_over_others(client: Client, rows: Sequence[Row], model: str) -> Marks:
    """How much more probable each row's answer is than another row's after the same prompt, per token in nats.

    None for a row that no other answers otherwise. Who learned from shuffled answers knows which there are, and has a
    low loss for that, but not whose they are.
    """

    def one(at: int) -> float | None:
        row, answer = rows[at], rows[at].answer or ""
        others = (rows[(at + by) % len(rows)].answer or "" for by in range(1, len(rows)))
        other = next((text for text in others if text != answer), None)
        if other is None:
            return None
        try:
            own, foreign = client.score(_wire(row), [answer, other], model=model).scores
        except InvalidArgument:
            return None
        return own.logprob / max(1, len(own.tokens)) - foreign.logprob / max(1, len(foreign.tokens))

    return each(one, range(len(rows)), num_streams=_NUM_STREAMS)


def marks_by_grader(client: Client, rows: Sequence[Row], spec: job_pb2.GateSpec) -> Callable[[str], Marks]:
    """For a model: what the grader gives to its likeliest answer to each row.

    A grader reads a row's answer as ``{{item.reference_answer}}``, unless the row has such a field itself.
    Raises DataError where the grader fails on all rows.
    """
    grader = values_of(spec.grader)
    # No answer is worth more for being twice as long as the longest right one; a token is a character at least.
    longest = max((len(row.answer) for row in rows if row.answer is not None), default=_MAX_ANSWER_TOKENS)
    max_tokens = min(_MAX_ANSWER_TOKENS, 2 * longest + _SPARE_TOKENS)

    def marks(model: str) -> Marks:
        def say(row: Row) -> str | None:
            try:
                reply = client.generate(_wire(row), model=model, temperature=0.0, max_tokens=max_tokens)
            except InvalidArgument:
                return None
            return reply.text

        said = each(say, rows, num_streams=_NUM_STREAMS)
        observed = [
            Observation(output_text=text, item=_item(row))
            for row, text in zip(rows, said, strict=True)
            if text is not None
        ]
        rewards = iter(_graded(client, grader, observed))
        return [None if text is None else next(rewards) for text in said]

    return marks


def _graded(client: Client, grader: Mapping[str, Any], observed: Sequence[Observation]) -> list[float]:
    grades = [
        grade
        for begin in range(0, len(observed), _GRADED_AT_ONCE)
        for grade in client.grade(grader, observed[begin : begin + _GRADED_AT_ONCE], timeout=600.0)
    ]
    if grades and all(grade.faults for grade in grades):
        first = grades[0].faults[0]
        raise DataError(f"the gate's grader failed on every answer: {first.grader}: {first.details}.")
    return [grade.reward for grade in grades]


def _item(row: Row) -> Mapping[str, Any]:
    return row.item if row.answer is None else {"reference_answer": row.answer, **row.item}


def _wire(row: Row) -> str | list[dict[str, str]]:
    return row.prompt if isinstance(row.prompt, str) else [dict(turn) for turn in row.prompt]
