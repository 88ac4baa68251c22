"""Requests to a running server: open loop, by the clock; closed loop, one after another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graft.bench.serving.load.arrivals import Arrival
from graft.bench.serving.peers.contenders import token_ids
from graft.bench.serving.peers.graft_server import Answer, GraftServer
from graft.bench.serving.processes import BenchFailed

PROMPT_TOKENS, MAX_TOKENS = 64, 16


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """How requests are made: `model_of` names an adapter; prompts never repeat within a run called `name`."""

    server: GraftServer
    model_of: Callable[[int], str]
    vocab_size: int
    name: str

    async def ask(self, number: int, adapter: int) -> Answer:
        """Request `number` of the run."""
        prompt = token_ids(PROMPT_TOKENS, self.vocab_size, seed=f"{self.name}/{number}")
        answer = await self.server.ask(self.model_of(adapter), prompt, MAX_TOKENS)
        if answer.error:
            raise BenchFailed(f"a request failed: {answer.error}")
        return answer


async def open_loop(traffic: Traffic, arrivals: Sequence[Arrival]) -> list[Answer]:
    """Every request at its time, whatever became of the others; the answers in the order of arrival.

    An answer's `begin` is when it was due, so that a late client cannot hide a wait. Raises `BenchFailed`.
    """
    origin = time.monotonic()

    async def one(number: int, arrival: Arrival) -> Answer:
        due = origin + arrival.seconds
        await asyncio.sleep(due - time.monotonic())
        found = await traffic.ask(number, arrival.adapter)
        return Answer(begin=due, end=found.end, arrivals=found.arrivals, num_tokens=found.num_tokens)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number, arrival)) for number, arrival in enumerate(arrivals)]
    return [task.result() for task in tasks]


async def closed_loop(traffic: Traffic, adapters: Sequence[int], *, num_streams: int) -> list[Answer]:
    """`num_streams` callers, each with its next request as soon as it has its answer. Raises `BenchFailed`."""
    waiting = iter(enumerate(adapters))

    async def stream() -> list[Answer]:
        return [await traffic.ask(number, adapter) for number, adapter in waiting]

    return [answer for answers in await asyncio.gather(*(stream() for _ in range(num_streams))) for answer in answers]


def requests_per_second(answers: Sequence[Answer]) -> float:
    """Finished requests ÷ the time from the first arrival to the last answer."""
    return len(answers) / (max(each.end for each in answers) - min(each.begin for each in answers))
