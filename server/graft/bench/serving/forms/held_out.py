"""Perplexity on text that the base did not learn from, through `Engine.score`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from graft.adapters.text.documents import read_documents
from graft.adapters.text.problems import UnreadableText
from graft.bench.serving.processes import BenchFailed
from graft.server.engine.engine import Engine

_AT_ONCE = 16


def read_texts(path: Path) -> list[str]:
    """The documents of a file, as training reads them. Raises `BenchFailed`."""
    try:
        return read_documents(path)
    except UnreadableText as error:
        raise BenchFailed(str(error)) from None


def windows_of(texts: Sequence[str], tokenize: Callable[[str], list[int]], *, length: int) -> list[list[int]]:
    """Token ids of the texts, cut after `length` tokens; pieces of a single token tell nothing and are left out."""
    windows = []
    for text in texts:
        ids = tokenize(text)
        windows += [ids[start : start + length] for start in range(0, len(ids), length)]
    return [window for window in windows if len(window) > 1]


async def perplexity(engine: Engine, windows: Sequence[Sequence[int]]) -> float:
    """exp of the mean negative log-probability of all tokens but each window's first."""
    if not windows:
        raise BenchFailed("the held-out text has no two tokens")
    places = asyncio.Semaphore(_AT_ONCE)

    async def score(number: int) -> tuple[float, int]:
        async with places:
            ids = windows[number]
            found = await engine.score(ids[:1], ids[1:], request_id=f"held-out-{number}", adapter=None)
            return found.logprob, len(found.tokens)

    scores = await asyncio.gather(*map(score, range(len(windows))))
    return math.exp(-sum(logprob for logprob, _ in scores) / sum(number for _, number in scores))
