"""`GradingService`: a grader is read, and asked about each answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from graft.server.api.grpc.types import Context
from graft.server.grading.grade import Grade
from graft.server.grading.graders import Grader
from graft.server.grading.grading import Grading
from graft.server.grading.observation import Observation
from graft.server.grading.reading import Allowed, read_grader
from graft.server.grading.templates import TooLong
from graft.server.runtime.json_values import BadJson, read_json
from graft.server.runtime.violations import Violations, shown
from graft.v1 import grading_pb2 as pb
from graft.v1 import grading_pb2_grpc

MAX_OBSERVATIONS = 1024


class GradingServicer(grading_pb2_grpc.GradingServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, grading: Grading) -> None:
        self._grading = grading

    async def Grade(self, request: pb.GradeRequest, context: Context) -> pb.GradeResponse:
        # Beside the event loop: a request may have megabytes.
        grader, observations = await asyncio.to_thread(_read, request, self._grading.allowed)
        grades = await self._grading.grade_all(grader, observations)
        return pb.GradeResponse(grades=map(_message, grades))


def _read(request: pb.GradeRequest, allowed: Allowed) -> tuple[Grader, list[Observation]]:
    """Raises `BadInput`."""
    violations = Violations()
    said = _json(request.grader, "grader", violations)
    grader = None if said is None else read_grader(said, allowed, violations)
    if not 1 <= len(request.observations) <= MAX_OBSERVATIONS:
        problem = f"there are {len(request.observations)}: between 1 and {MAX_OBSERVATIONS} are graded in a call"
        violations.add("observations", problem)
    observations = [
        _observation(one, f"observations[{index}]", violations)
        for index, one in violations.until_full(enumerate(request.observations[:MAX_OBSERVATIONS]))
    ]
    violations.raise_any()
    assert grader is not None
    return grader, observations


def _observation(said: pb.Observation, field: str, violations: Violations) -> Observation:
    item = _object(said.item, f"{field}.item", violations) if said.item else {}
    tools = [_object(one, f"{field}.output_tools[{at}]", violations) for at, one in enumerate(said.output_tools)]
    observation = Observation(output_text=said.output_text, item=item, tools=tools)
    with contextlib.suppress(TooLong):  # its graders say so
        _ = observation.num_characters
    return observation


def _object(text: str, field: str, violations: Violations) -> Mapping[str, Any]:
    value = _json(text, field, violations)
    if value is not None and not isinstance(value, Mapping):
        violations.add(field, f"is {shown(value)}; it must be a JSON object")
    return value if isinstance(value, Mapping) else {}


def _json(text: str, field: str, violations: Violations) -> Any:
    """None where it is refused."""
    try:
        value = read_json(text)
    except BadJson as error:
        violations.add(field, str(error))
        return None
    if value is None:
        violations.add(field, "is null; it must be a JSON object")
    return value


def _message(grade: Grade) -> pb.Grade:
    return pb.Grade(
        reward=grade.reward,
        sub_rewards=grade.sub_rewards,
        faults=_faults(grade),
        tokens_by_model=grade.tokens_by_model,
    )


def _faults(grade: Grade) -> Sequence[pb.GradeFault]:
    return [
        pb.GradeFault(
            grader=fault.grader,
            kind=pb.GradeFaultKind.Value(f"GRADE_FAULT_KIND_{fault.kind.upper()}"),
            details=fault.details,
        )
        for fault in grade.faults
    ]
