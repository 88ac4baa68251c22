"""Open loop: requests come when they are due, whatever became of those before."""

from __future__ import annotations

import asyncio
import itertools
from typing import cast

import pytest

from graft.bench.serving.load.arrivals import Arrival
from graft.bench.serving.load.open_loop import Traffic, closed_loop, open_loop, requests_per_second
from graft.bench.serving.peers.graft_server import Answer, GraftServer
from graft.bench.serving.processes import BenchFailed


class Scripted:
    """Answers nobody before `enough` requests wait, or at once where that is 1."""

    def __init__(self, *, enough: int, error: str = "") -> None:
        self.models: list[str] = []
        self.most_at_once = 0
        self._waiting, self._enough, self._error = 0, enough, error
        self._all_here = asyncio.Event()

    async def ask(self, model: str, prompt: list[int], max_tokens: int) -> Answer:
        self.models.append(model)
        self._waiting += 1
        self.most_at_once = max(self.most_at_once, self._waiting)
        if self._waiting >= self._enough:
            self._all_here.set()
        await asyncio.wait_for(self._all_here.wait(), 5.0)
        self._waiting -= 1
        return Answer(begin=0.0, end=1.0, arrivals=(0.5,), num_tokens=max_tokens, error=self._error)


def traffic(server: Scripted) -> Traffic:
    return Traffic(server=cast(GraftServer, server), model_of="a{}".format, vocab_size=384, name="test")


async def test_open_loop_waits_for_no_answer() -> None:
    server = Scripted(enough=10)
    arrivals = [Arrival(seconds=number / 1000, adapter=number % 3) for number in range(10)]
    answers = await open_loop(traffic(server), arrivals)
    assert len(answers) == 10
    assert server.models == [f"a{number % 3}" for number in range(10)]
    gaps = [later.begin - earlier.begin for earlier, later in itertools.pairwise(answers)]
    assert gaps == pytest.approx([0.001] * 9)


async def test_closed_loop_keeps_as_many_as_it_has_streams() -> None:
    server = Scripted(enough=4)
    answers = await closed_loop(traffic(server), [0] * 20, num_streams=4)
    assert len(answers) == 20
    assert server.most_at_once == 4


async def test_a_request_that_fails_fails_the_measurement() -> None:
    server = Scripted(enough=1, error="UNAVAILABLE: try again")
    with pytest.raises(BenchFailed, match="UNAVAILABLE"):
        await closed_loop(traffic(server), [0], num_streams=1)


def test_throughput_counts_from_the_first_arrival_to_the_last_answer() -> None:
    answers = [Answer(begin=begin, end=begin + 2, arrivals=(), num_tokens=1) for begin in (1.0, 2.0, 3.0)]
    assert requests_per_second(answers) == 3 / 4
