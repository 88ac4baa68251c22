"""What is told of a job is each event once, whatever the streams bring again or leave out."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.client.errors import DeadlineExceeded, Details, IncompleteStream, ResourceExhausted, Unavailable
from graft.client.fine_tuning.watching import STREAM_SECONDS, Watch
from graft.v1 import job_pb2 as pb

UNAVAILABLE = Unavailable("gone", code=grpc.StatusCode.UNAVAILABLE)


def event(number: int, state: pb.JobState.ValueType = pb.JOB_STATE_RUNNING) -> pb.JobEvent:
    return pb.JobEvent(number=number, state=state)


def watching(after: int = 0, patience_seconds: float = 10.0) -> Watch:
    return Watch("ftjob-1", after=after, patience_seconds=patience_seconds)


@given(after=st.integers(0, 5), streams=st.lists(st.lists(st.integers(1, 12), max_size=12), max_size=6))
def test_each_event_once_and_in_order(after: int, streams: list[list[int]]) -> None:
    watch, told = watching(after), []
    for stream in [*streams, list(range(1, 13))]:  # the last one brings all
        try:
            for number in stream:
                if one := watch.take(event(number)):
                    told.append(one.number)
        except IncompleteStream:  # what lies between did not come: nothing of the rest is told
            assert watch.request(now_seconds=0.0).after_number == after + len(told)
    assert told == list(range(after + 1, 13))


def test_it_ends_with_the_jobs_last_event_and_not_with_the_stream() -> None:
    watch = watching()
    watch.take(event(1))
    with pytest.raises(IncompleteStream, match="broke off after event 1"):
        watch.ended()
    watch.take(event(2, pb.JOB_STATE_CANCELLED))
    watch.ended()
    assert watch.is_over


@pytest.mark.parametrize(("num_events", "is_over"), [(4, True), (5, True), (6, False)])
def test_of_an_ended_job_only_what_is_not_known_is_waited_for(num_events: int, is_over: bool) -> None:
    watch = watching(after=5)
    watch.found(pb.Job(state=pb.JOB_STATE_FAILED, num_events=num_events))
    assert watch.is_over is is_over


def test_a_job_that_says_nothing_for_long_is_no_break() -> None:
    watch = watching(after=3, patience_seconds=10)
    for now in (0.0, 60.0, 120.0):
        watch.wait_after(UNAVAILABLE, now)
        watch.found(pb.Job(state=pb.JOB_STATE_QUEUED, num_events=3))
    watch.found(pb.Job(state=pb.JOB_STATE_RUNNING, num_events=4))  # there, but its events do not come
    watch.wait_after(UNAVAILABLE, 130.0)
    watch.found(pb.Job(state=pb.JOB_STATE_RUNNING, num_events=4))
    with pytest.raises(Unavailable):
        watch.wait_after(UNAVAILABLE, 140.0)


def test_waits_grow_to_a_bound_and_the_servers_own_is_kept() -> None:
    watch = watching(patience_seconds=1e9)
    waits = [watch.wait_after(UNAVAILABLE, 0.0) for _ in range(8)]
    assert waits == sorted(waits) and waits[0] <= 0.1 and waits[-1] == 5.0
    full = ResourceExhausted("full", code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=Details(retry_after_seconds=30.0))
    assert watch.wait_after(full, 0.0) == 30.0


def test_a_stream_that_had_all_its_time_is_no_break() -> None:
    told: list[object] = []
    watch = Watch("ftjob-1", after=3, patience_seconds=1e9, on_silence=told.append)
    expired = DeadlineExceeded("expired", code=grpc.StatusCode.DEADLINE_EXCEEDED)
    watch.request(now_seconds=1000.0)
    assert watch.wait_after(expired, 1000.0 + STREAM_SECONDS) == 0.0 and not told
    # Of the call that follows, and of a stream that ends earlier, it is one.
    assert watch.wait_after(expired, 1001.0 + STREAM_SECONDS) > 0.0 and told == [expired]
    watch.request(now_seconds=5000.0)
    assert watch.wait_after(expired, 5005.0) > 0.0
