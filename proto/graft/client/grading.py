"""What is asked of `GradingService`: answers, and what each is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graft.client.operation import Operation, unary
from graft.v1 import grading_pb2 as pb

Grader = str | Mapping[str, object]
"""A grader as JSON text, or as the object that it says, in OpenAI's words."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """An answer, the dataset's row that it answers, and the calls of tools in it."""

    output_text: str
    item: Mapping[str, object] = field(default_factory=dict)
    output_tools: Sequence[Mapping[str, object]] = ()


def grade(grader: Grader, observations: Sequence[Observation]) -> Operation[list[pb.Grade]]:
    message = pb.GradeRequest(
        grader=grader if isinstance(grader, str) else _json(grader),
        observations=[
            pb.Observation(
                output_text=one.output_text,
                item=_json(one.item) if one.item else "",
                output_tools=map(_json, one.output_tools),
            )
            for one in observations
        ],
    )
    return unary("GradingService", message, pb.GradeResponse, lambda response: list(response.grades))


def _json(value: Mapping[str, object]) -> str:
    return json.dumps(value, ensure_ascii=False)
