"""The shipped base reasons in its own way, `12+39? 2+9+0=11;1+3+1=5; 51`; questions are held out from its corpus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest_asyncio

from graft.client import AsyncClient
from graft.server.prompting.program.program import Decoding, Extraction
from graft.server.prompting.reasoning.task import Reasoned, Task
from graft.training.rootstock.corpus import arithmetic
from tests.running import Server
from tests.server.prompting.reasoning.running import result, task
from tests.server.prompting.served import ServedBase

NUM_QUESTIONS = 12


@pytest_asyncio.fixture
async def served(server: Server) -> AsyncIterator[ServedBase]:
    async with AsyncClient(server.grpc) as client:
        yield ServedBase(client)


def sums() -> list[tuple[int, int]]:
    rng = Random(5)
    return [arithmetic.operands(rng, 3, held_out=True) for _ in range(NUM_QUESTIONS)]


def asked(a: int, b: int, *, worked: bool, paths: int = 1, temperature: float = 0) -> Task:
    """Three demonstrations, with or without steps, and a sum."""
    rng = Random(f"{a}/{b}")
    write = arithmetic.worked if worked else arithmetic.direct
    shown = "".join(f"{write(*arithmetic.operands(rng, 3))}\n" for _ in range(3))
    return task(
        f"{shown}{a}+{b}{'?' if worked else '='}",
        {"method": "chain_of_thought" if worked else "direct", "paths": paths},
        shows_rationales=worked,
        extraction=Extraction(method="after", marker=";") if worked else Extraction(),
        decoding=Decoding(max_tokens=80, temperature=temperature, seed=a, stop=("\n",)),
    )


async def test_steps_make_sums_right(served: ServedBase) -> None:
    """Wei et al. 2022: what a model cannot say at once it can work out."""
    right = {}
    for worked in (False, True):
        ends = await asyncio.gather(*(result(served, asked(a, b, worked=worked)) for a, b in sums()))
        right[worked] = sum(end.answer == str(a + b) for end, (a, b) in zip(ends, sums(), strict=True))
        if worked:
            assert all(_is_rationale_of(end, a, b) for end, (a, b) in zip(ends, sums(), strict=True) if end.answer)
    assert right[True] >= 10 and right[False] <= 4


async def test_paths_vote_on_the_base(served: ServedBase) -> None:
    """At a temperature at which single paths err, most of nine agree on what is right."""
    a, b = sums()[0]
    end = await result(served, asked(a, b, worked=True, paths=9, temperature=1.3))
    assert end.answer == str(a + b)
    assert end.votes[0].num_paths >= 3 and end.votes[0].answer == end.answer


def _is_rationale_of(end: Reasoned, a: int, b: int) -> bool:
    return end.rationale == arithmetic.steps(a, b) or end.answer != str(a + b)
