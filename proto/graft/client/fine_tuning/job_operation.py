"""The unary calls of `JobService` that users make, said once for both clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar

from google.protobuf.message import Message

from graft.client.fine_tuning.values import struct_of
from graft.client.operation import Operation, new_request_id, page_size, unary
from graft.v1 import job_pb2 as pb

WATCH = "/graft.v1.JobService/WatchJob"
STATES = {name.removeprefix("JOB_STATE_").lower(): number for name, number in pb.JobState.items() if number}
"""The states by OpenAI's words for them."""
METHODS = {name.removeprefix("JOB_METHOD_").lower(): number for name, number in pb.JobMethod.items() if number}
ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED})
"""From here nothing moves a job."""

_STRUCTS = ("hyperparameters", "grader")
Out = TypeVar("Out")
Response = TypeVar("Response", bound=Message)


class JobOptions(TypedDict, total=False):
    """What a job may be asked beside model and training file; see `JobSpec` in the contract."""

    method: str
    validation_file: str
    hyperparameters: Mapping[str, object]
    grader: Mapping[str, object]
    seed: int
    suffix: str
    metadata: Mapping[str, str]
    priority: int
    adapter: str
    from_checkpoint: str
    dry_run: bool
    n_evals: int
    gate: pb.GateSpec


def _job(request: Message, response: type[Response], read: Callable[[Response], Out]) -> Operation[Out]:
    return unary("JobService", request, response, read)


def create_job(model: str, training_file: str, options: JobOptions) -> Operation[pb.Job]:
    message = pb.CreateJobRequest(spec=spec(model, training_file, options), request_id=new_request_id())
    return _job(message, pb.CreateJobResponse, lambda response: response.job)


def spec(model: str, training_file: str, options: JobOptions) -> pb.JobSpec:
    """What is asked, supervised unless a method is said.

    Raises TypeError for an option that is unknown or of the wrong type, ValueError for an unknown method and for all
    values that no message can hold.
    """
    fields: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    known = set(pb.JobSpec.DESCRIPTOR.fields_by_name) - {"model", "training_file"}
    if unknown := sorted(fields.keys() - known):
        raise TypeError(f"unknown option {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    method = fields.pop("method", "supervised")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; there are {', '.join(METHODS)}")
    message = pb.JobSpec(method=METHODS[method])
    problems = []
    for name, value in {"model": model, "training_file": training_file, **fields}.items():
        try:
            one: dict[str, Any] = {name: struct_of(value) if name in _STRUCTS else value}
            message.MergeFrom(pb.JobSpec(**one))
        except UnicodeEncodeError:
            problems.append(f"{name} cannot be sent: it is not UTF-8")
        except ValueError as error:
            problems.append(f"{name} cannot be sent: {error}")
    if problems:
        raise ValueError("; ".join(problems))
    return message


def get_job(job: str) -> Operation[pb.Job]:
    return _job(pb.GetJobRequest(job=job), pb.GetJobResponse, lambda response: response.job)


def list_jobs(
    state: str, metadata: Mapping[str, str], page_token: str, limit: int | None
) -> Operation[tuple[list[pb.Job], str]]:
    if state and state not in STATES:
        raise ValueError(f"state is {state!r}; there are {', '.join(STATES)}")
    message = pb.ListJobsRequest(
        state=STATES[state] if state else pb.JOB_STATE_UNSPECIFIED,
        metadata=metadata,
        page_token=page_token,
        page_size=page_size(limit),
    )
    return _job(message, pb.ListJobsResponse, lambda response: (list(response.jobs), response.next_page_token))


def cancel_job(job: str) -> Operation[pb.Job]:
    message = pb.CancelJobRequest(job=job, request_id=new_request_id())
    return _job(message, pb.CancelJobResponse, lambda response: response.job)


def pause_job(job: str) -> Operation[pb.Job]:
    message = pb.PauseJobRequest(job=job, request_id=new_request_id())
    return _job(message, pb.PauseJobResponse, lambda response: response.job)


def resume_job(job: str) -> Operation[pb.Job]:
    message = pb.ResumeJobRequest(job=job, request_id=new_request_id())
    return _job(message, pb.ResumeJobResponse, lambda response: response.job)


def list_events(job: str, page_token: str, limit: int | None) -> Operation[tuple[list[pb.JobEvent], str]]:
    return _job(
        pb.ListJobEventsRequest(job=job, page_token=page_token, page_size=page_size(limit)),
        pb.ListJobEventsResponse,
        lambda response: (list(response.events), response.next_page_token),
    )


def list_checkpoints(job: str, page_token: str, limit: int | None) -> Operation[tuple[list[pb.JobCheckpoint], str]]:
    return _job(
        pb.ListJobCheckpointsRequest(job=job, page_token=page_token, page_size=page_size(limit)),
        pb.ListJobCheckpointsResponse,
        lambda response: (list(response.checkpoints), response.next_page_token),
    )
