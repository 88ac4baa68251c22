"""Rewards from the running server's graders, and what becomes of the answers on which they fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from graft.client import Client, Observation
from graft.client.grading import Grader
from graft.training.evaluation.asking.side_by_side import asked_again
from graft.training.reinforce.asking.grader_faults import FaultTally, GraderFault, GraderFaults, Tolerance
from graft.training.reinforce.rollout import Rollout
from graft.v1 import grading_pb2 as pb

# A call ends at its deadline, and scripts wait for each other.
_NUM_IN_A_CALL = 64
_CALL_SECONDS = 3600.0
_KIND = "GRADE_FAULT_KIND_"


class AskedGrader:
    """Rounds' ``grade``. ``items`` are the training file's rows, which graders see as ``item``."""

    def __init__(
        self,
        client: Client,
        grader: Grader,
        items: Sequence[Mapping[str, object]],
        *,
        tolerance: Tolerance | None = None,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        """``tell`` is a warning for the training's owner."""
        self._client, self._grader, self._items = client, grader, items
        self._tolerance, self._tell = tolerance or Tolerance(), tell
        self.tally = FaultTally()
        self.last = GraderFaults(num_answers=0)
        """Of the answers that were graded last."""

    def __call__(self, answers: Sequence[tuple[int, Rollout]]) -> list[float | None]:
        """The reward of each answer to a row's prompt; None where the grader failed. Raises ``GradersFailed``, and the
        client's errors.
        """
        parts = [answers[begin : begin + _NUM_IN_A_CALL] for begin in range(0, len(answers), _NUM_IN_A_CALL)]
        grades = [grade for part in parts for grade in self._graded(part)]
        faults = [_fault(grade) for grade in grades if grade.faults]
        self.last = GraderFaults(num_answers=len(answers), faults=faults)
        self.tally, told = self.tally.after(self.last)
        if told is not None:
            self._tell(told)
        self._tolerance.check(self.last)
        return [None if grade.faults else grade.reward for grade in grades]

    def _graded(self, answers: Sequence[tuple[int, Rollout]]) -> list[pb.Grade]:
        observations = [Observation(output_text=rollout.text, item=self._items[row]) for row, rollout in answers]
        return asked_again(lambda: self._client.grade(self._grader, observations, timeout=_CALL_SECONDS))


def _fault(grade: pb.Grade) -> GraderFault:
    """The first: of several graders' faults each says the same of the answer."""
    first = grade.faults[0]
    kind = pb.GradeFaultKind.Name(first.kind).removeprefix(_KIND).lower()
    return GraderFault(kind=kind, details=f"{first.grader}: {first.details}")
