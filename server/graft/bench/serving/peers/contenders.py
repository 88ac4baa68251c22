"""Who is measured: anything that completes a batch of prompts, each row with an adapter of its own."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from graft.bench.serving.processes import BenchFailed
from graft.server.engine.engine import EngineAdapter

if TYPE_CHECKING:
    from graft.server.engine.vllm.engine import VllmEngine

PROMPT_TOKENS, ANSWER_TOKENS = 64, 64
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
    """An engine in this process's care; adapter n of a row is the n-th of the folders."""

    def __init__(self, engine: VllmEngine, folders: Sequence[Path] = ()) -> None:
        self.engine = engine
        self.adapters = [
            EngineAdapter(digest=f"bench-{number}", engine_id=number + 1, path=path)
            for number, path in enumerate(folders)
        ]

    async def load(self) -> None:
        """Bring all adapters into slots."""
        for adapter in self.adapters:
            await self.engine.load(adapter)

    async def complete(self, rows: Sequence[Row], max_tokens: int) -> int:
        return sum(await asyncio.gather(*(self._answer(row, max_tokens) for row in rows)))

    async def _answer(self, row: Row, max_tokens: int) -> int:
        """In one piece and without its text, so that the front costs next to nothing."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from graft.server.engine.vllm.conversion import engine_errors

        params = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt, request_id = {"prompt_token_ids": row.prompt}, f"bench-{next(_numbers)}"
        lora = self.engine.lora_request(None if row.adapter is None else self.adapters[row.adapter])
        num_tokens = 0
        with engine_errors():
            async for output in self.engine.llm.generate(prompt, params, request_id, lora_request=lora):
                num_tokens = len(output.outputs[0].token_ids)
        return num_tokens


def token_ids(num_tokens: int, vocab_size: int, *, seed: str) -> list[int]:
    """A prompt by chance; different seeds share no prefix worth caching. Leaves out the lowest ids, often special."""
    chance = random.Random(seed)
    return [chance.randrange(16, vocab_size) for _ in range(num_tokens)]


def rows_of(batch: int, *, num_adapters: int, vocab_size: int, seed: str) -> list[Row]:
    """Distinct prompts by chance; the adapters take turns, and with none all rows ask the base."""
    return [
        Row(
            prompt=token_ids(PROMPT_TOKENS, vocab_size, seed=f"{seed}/{number}"),
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
