"""What a dry run has found, as a message and back."""

from __future__ import annotations

from graft.server.api.grpc.values import read_seconds
from graft.server.jobs.plan import JobPlan, Piece, PlannedExample
from graft.server.runtime.violations import Violations
from graft.v1 import job_pb2 as pb

_MAX_EXAMPLES, _MAX_NOTES = 16, 100
_MAX_CHARACTERS = 100_000
"""Of all examples' texts and of the notes: a plan stands in every answer about its job."""
_COUNTS = (
    *("num_rows", "num_examples", "num_tokens", "num_learned_tokens", "num_cut", "num_dropped", "num_steps"),
    "trained_tokens",
)


def plan_message(plan: JobPlan) -> pb.JobPlan:
    message = pb.JobPlan(**{name: getattr(plan, name) for name in _COUNTS}, notes=plan.notes)
    for one in plan.examples:
        pieces = [pb.PlannedPiece(text=piece.text, is_learned=piece.is_learned) for piece in one.pieces]
        message.examples.add(row=one.row, pieces=pieces)
    if plan.seconds is not None:
        message.duration.FromMilliseconds(round(plan.seconds * 1000))
    return message


def read_plan(message: pb.JobPlan, violations: Violations) -> JobPlan:
    """What is wrong is added."""
    return JobPlan(
        **{name: getattr(message, name) for name in _COUNTS},
        seconds=read_seconds(message.duration, "plan.duration", violations) if message.HasField("duration") else None,
        examples=tuple(
            PlannedExample(
                row=one.row,
                pieces=tuple(Piece(text=piece.text, is_learned=piece.is_learned) for piece in one.pieces),
            )
            for one in message.examples
        ),
        notes=tuple(message.notes),
    )


def check_plan(message: pb.JobPlan, violations: Violations) -> None:
    """Its sizes."""
    for name, limit in (("examples", _MAX_EXAMPLES), ("notes", _MAX_NOTES)):
        if len(getattr(message, name)) > limit:
            violations.add(f"plan.{name}", f"has {len(getattr(message, name))} entries; the limit is {limit}")
    num_characters = sum(map(len, message.notes)) + sum(
        len(piece.text) for one in message.examples for piece in one.pieces
    )
    if num_characters > _MAX_CHARACTERS:
        violations.add("plan", f"has {num_characters} characters; the limit is {_MAX_CHARACTERS}")
    for name in _COUNTS:
        if getattr(message, name) < 0:
            violations.add(f"plan.{name}", f"is {getattr(message, name)}; it is 0 or more")
