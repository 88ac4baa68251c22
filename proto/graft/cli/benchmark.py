"""The measurement behind `graft bench`."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from graft.cli.failure import CommandFailed
from graft.cli.load import TimedAnswer, ask, percentile
from graft.client import AsyncClient, SamplingOptions


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked: every stream sends its requests one after another, the models taking turns."""

    models: tuple[str, ...]
    num_streams: tuple[int, ...]
    num_rounds: int
    prompt_tokens: int
    max_tokens: int


def measure(target: str, load: Load, *, token: str | None = None) -> list[dict[str, float]]:
    """One row of numbers per number of streams, after a warm-up."""
    return asyncio.run(_measure(target, load, token))


async def _measure(target: str, load: Load, token: str | None) -> list[dict[str, float]]:
    async with AsyncClient(target, timeout=600.0, token=token) as client:
        await client.wait_ready()
        await asyncio.gather(*(_ask(client, load, model, seed) for seed, model in enumerate(load.models)))
        return [await _at(client, load, num_streams) for num_streams in load.num_streams]


async def _at(client: AsyncClient, load: Load, num_streams: int) -> dict[str, float]:
    begin = time.monotonic()
    streams = await asyncio.gather(*(_stream(client, load, stream) for stream in range(num_streams)))
    seconds = time.monotonic() - begin
    answers = [answer for stream in streams for answer in stream]
    good = [answer for answer in answers if answer.error is None]
    if not good:
        raise CommandFailed(f"every request failed, the first with: {answers[0].error}")
    firsts = [answer.first_token_seconds or 0.0 for answer in good]
    gaps = [gap.seconds for answer in good for gap in answer.gaps] or [0.0]
    return {
        "streams": num_streams,
        "tokens_per_second": round(sum(answer.num_tokens for answer in good) / seconds, 1),
        "first_token_p50_ms": round(percentile(firsts, 50) * 1000, 1),
        "first_token_p99_ms": round(percentile(firsts, 99) * 1000, 1),
        "gap_p50_ms": round(percentile(gaps, 50) * 1000, 1),
        "gap_p99_ms": round(percentile(gaps, 99) * 1000, 1),
        "gap_max_ms": round(max(gaps) * 1000, 1),
        "num_failed": len(answers) - len(good),
    }


async def _stream(client: AsyncClient, load: Load, stream: int) -> list[TimedAnswer]:
    answers = []
    for turn in range(load.num_rounds):
        number = stream * load.num_rounds + turn
        answers.append(await _ask(client, load, load.models[number % len(load.models)], number))
    return answers


async def _ask(client: AsyncClient, load: Load, model: str, seed: int) -> TimedAnswer:
    # Letters by chance: no two prompts share a prefix, so that the cache does not answer for the engine.
    letters = random.Random(seed).choices("abcdefghijklmnopqrstuvwxyz ", k=load.prompt_tokens)
    options: SamplingOptions = {"max_tokens": load.max_tokens, "ignore_eos": True}
    return await ask(client, "".join(letters), model, options)
