"""The arithmetic of latency, and requests timed over a real wire."""

from __future__ import annotations

import time

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.cli.benchmark import Load, measure
from graft.cli.load import TimedAnswer, ask, largest_gap, milliseconds, percentile
from graft.client import AsyncClient, Unavailable
from graft.v1 import inference_pb2
from tests.proto.scripted_server import ANSWERER, Script, chunk


def answer(*arrivals: float) -> TimedAnswer:
    return TimedAnswer(text="", begin=0.0, end=arrivals[-1], arrivals=arrivals, num_tokens=len(arrivals), answerer=None)


def test_a_gap_counts_in_every_window_that_it_touches() -> None:
    answers = [answer(1.0, 1.1, 4.0, 4.2), answer(0.5, 0.9)]
    assert largest_gap(answers, begin=2.0, end=3.0) == pytest.approx(2.9)
    assert largest_gap(answers, begin=0.0, end=1.05) == pytest.approx(0.4)
    assert largest_gap(answers, begin=5.0, end=6.0) is None


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    covered = sum(value <= found for value in values)
    assert covered * 100 >= percent * len(values) - 1e-6
    below = sum(value < found for value in values)
    assert below * 100 < max(percent, 1e-9) * len(values) + 1e-6


def test_milliseconds_for_people() -> None:
    assert (milliseconds(0.0824), milliseconds(None)) == ("82 ms", "–")


async def test_the_wait_between_tokens_is_seen(async_client: AsyncClient, script: Script) -> None:
    def stream(context: grpc.ServicerContext):
        yield inference_pb2.GenerateResponse(answerer=ANSWERER)
        yield chunk("a")
        time.sleep(0.3)
        yield chunk("b", finish=1)

    script.stream = stream
    timed = await ask(async_client, "x", "", {})
    assert (timed.text, timed.num_tokens, timed.answerer) == ("ab", 2, ANSWERER)
    assert 0.2 < timed.gaps[0].seconds < 1.0


async def test_a_failed_request_is_an_answer_with_its_error(async_client: AsyncClient, script: Script) -> None:
    script.fault = lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    timed = await ask(async_client, "x", "", {})
    assert isinstance(timed.error, Unavailable)
    assert timed.first_token_seconds is None


def test_the_benchmark_asks_what_it_was_told(target: str, script: Script) -> None:
    load = Load(models=("", "dates"), num_streams=(1, 3), num_rounds=2, prompt_tokens=9, max_tokens=5)
    one, three = measure(target, load)
    requests = [request for request in script.requests if isinstance(request, inference_pb2.GenerateRequest)]
    assert len(requests) == 2 + 1 * 2 + 3 * 2, "a warm-up per model, then every stream's rounds"
    assert {request.model for request in requests} == {"", "dates"}
    assert all(len(request.prompt.text) == 9 and request.sampling.max_tokens == 5 for request in requests)
    assert (one["streams"], three["streams"], three["num_failed"]) == (1, 3, 0)
    assert three["tokens_per_second"] > 0
