"""The unary calls of `ReleaseService`, said once for both clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, TypeVar

from google.protobuf.message import Message

from graft.client.operation import Operation, new_request_id, page_size, unary
from graft.v1 import job_pb2
from graft.v1 import release_pb2 as pb

Out = TypeVar("Out")
Response = TypeVar("Response", bound=Message)


class CanaryOptions(TypedDict, total=False):
    """A canary's rules; see `CanarySpec` in the contract."""

    share_percent: int
    num_answers: int
    max_false_alarm: float
    tolerance: float
    needs_outcomes: bool


def _release(request: Message, response: type[Response], read: Callable[[Response], Out]) -> Operation[Out]:
    return unary("ReleaseService", request, response, read)


def decide_rollout(
    adapter: str, version: str | int, gate: job_pb2.GateSpec, report: pb.GateReport, job: str
) -> Operation[pb.Rollout]:
    message = pb.DecideRolloutRequest(
        adapter=adapter, version=str(version), gate=gate, report=report, job=job, request_id=new_request_id()
    )
    return _release(message, pb.DecideRolloutResponse, lambda response: response.rollout)


def begin_canary(adapter: str, version: str | int, options: CanaryOptions) -> Operation[pb.Rollout]:
    fields: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    message = pb.BeginCanaryRequest(
        adapter=adapter,
        version=str(version),
        canary=job_pb2.CanarySpec(**fields),
        request_id=new_request_id(),
    )
    return _release(message, pb.BeginCanaryResponse, lambda response: response.rollout)


def get_rollout(rollout: str) -> Operation[pb.Rollout]:
    return _release(pb.GetRolloutRequest(rollout=rollout), pb.GetRolloutResponse, lambda response: response.rollout)


def list_rollouts(adapter: str, page_token: str, limit: int | None) -> Operation[tuple[list[pb.Rollout], str]]:
    message = pb.ListRolloutsRequest(adapter=adapter, page_token=page_token, page_size=page_size(limit))
    return _release(
        message, pb.ListRolloutsResponse, lambda response: (list(response.rollouts), response.next_page_token)
    )


def promote(adapter: str) -> Operation[pb.Rollout]:
    message = pb.PromoteRolloutRequest(adapter=adapter, request_id=new_request_id())
    return _release(message, pb.PromoteRolloutResponse, lambda response: response.rollout)


def roll_back(adapter: str) -> Operation[pb.Rollout]:
    message = pb.RollBackRequest(adapter=adapter, request_id=new_request_id())
    return _release(message, pb.RollBackResponse, lambda response: response.rollout)


def report_outcome(response: str, outcome: float) -> Operation[bool]:
    message = pb.ReportOutcomeRequest(response=response, outcome=outcome, request_id=new_request_id())
    return _release(message, pb.ReportOutcomeResponse, lambda answer: answer.counted)
