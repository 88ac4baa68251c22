"""Who is measured: anything that completes a batch of prompts, each row with an adapter of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from graft.bench.serving.figures.pairs import Window
from graft.bench.serving.load.arrivals import token_ids
from graft.bench.serving.processes import BenchFailed
from graft.server.engine.engine import EngineAdapter

if TYPE_CHECKING:
    from graft.server.engine.vllm.engine import VllmEngine

_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request: its prompt and the number of its adapter, None for the base."""

    prompt: list[int]
    adapter: int | None = None


class Contender(Protocol):
    """Completes rows at once, greedily, past any end token."""

    async def complete(self, rows: Sequence[Row], max_tokens: int) -> int:
        """Tokens generated in all."""
        ...


class EngineContender:
    """An engine in this process's care; adapter n of a row is `adapters[n]`."""

    def __init__(self, engine: VllmEngine, adapters: Sequence[EngineAdapter] = ()) -> None:
        self.engine = engine
        self.adapters = list(adapters)

    async def complete(self, rows: Sequence[Row], max_tokens: int) -> int:
        return sum(await asyncio.gather(*(self._answer(row, max_tokens) for row in rows)))

    async def _answer(self, row: Row, max_tokens: int) -> int:
        from graft.server.engine.vllm.whole import whole_answer

        return await whole_answer(
            self.engine,
            row.prompt,
            max_tokens=max_tokens,
            request_id=f"bench-{next(_numbers)}",
            adapter=None if row.adapter is None else self.adapters[row.adapter],
        )


def rows_of(batch: int, *, num_adapters: int, prompt_tokens: int, vocab_size: int, seed: str) -> list[Row]:
    """Distinct prompts by chance; the adapters take turns, and with none all rows ask the base."""
    return [
        Row(
            prompt=token_ids(prompt_tokens, vocab_size, seed=f"{seed}/{number}"),
            adapter=number % num_adapters if num_adapters else None,
        )
        for number in range(batch)
    ]


async def throughput(contender: Contender, rows: Sequence[Row], max_tokens: int) -> float:
    """Generated tokens per second of one batch. Raises `BenchFailed` where other than the tokens asked for came."""
    begin = time.perf_counter()
    num_tokens = await contender.complete(rows, max_tokens)
    seconds = time.perf_counter() - begin
    if num_tokens != len(rows) * max_tokens:
        raise BenchFailed(f"{num_tokens} tokens came where {len(rows)} × {max_tokens} were asked for")
    return num_tokens / seconds


def batch_window(
    contender: Contender,
    *,
    batch: int,
    num_adapters: int,
    vocab_size: int,
    name: str,
    prompt_tokens: int = 64,
    max_tokens: int = 64,
) -> Window:
    """Throughput (tokens/s) of one batch; both sides of a pair get the same prompts where they share `name`."""

    async def window(pair: int) -> float:
        rows = rows_of(
            batch,
            num_adapters=num_adapters,
            prompt_tokens=prompt_tokens,
            vocab_size=vocab_size,
            seed=f"{name}/{pair}",
        )
        return await throughput(contender, rows, max_tokens)

    return window
