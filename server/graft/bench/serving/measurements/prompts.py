"""What prompts that begin alike cost: few-shot prefixes, sampled paths, and choices that are scored."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

from graft.bench.serving.figures.figures import median_of
from graft.bench.serving.measurements.workbench import Window, Workbench
from graft.bench.serving.peers.contenders import EngineContender, token_ids
from graft.bench.serving.peers.engines import BARE
from graft.bench.serving.processes import BenchFailed
from graft.server.engine.engine import Sampling

_PREFIX_TOKENS, _QUESTION_TOKENS = 900, 24
_NUM_PATHS, _PATH_TOKENS = 20, 16
_NUM_OPTIONS, _OPTION_TOKENS = 8, 8
_ODD = 37
"""Prefixes differ in length from pair to pair, so that they end at different places of a cache block."""

_numbers = itertools.count()
Ask = Callable[[], Awaitable[object]]


async def shared_prefixes(bench: Workbench) -> None:
    """Time to first token, paths and options after prefixes of about 900 tokens."""
    if bench.context < _PREFIX_TOKENS + _ODD + _QUESTION_TOKENS:
        raise BenchFailed(f"the base's context of {bench.context} tokens is shorter than prefix and question")
    contender = await bench.engines.get(BARE)
    await _first_token(bench, contender)
    await _paths(bench, contender)
    await _options(bench, contender)


async def _first_token(bench: Workbench, contender: EngineContender) -> None:
    """A question after a prefix that is in the cache ÷ after one that is not."""

    def window(*, cached: bool) -> Window:
        async def measure(pair: int) -> float:
            prefix = _prefix(bench, pair, f"first/{cached}")
            if cached:
                await _ask(contender, [*prefix, *_ids(bench, _QUESTION_TOKENS, f"before/{pair}")])
            prompt = [*prefix, *_ids(bench, _QUESTION_TOKENS, f"question/{pair}")]
            return await _seconds(lambda: _ask(contender, prompt))

        return measure

    await bench.compare("prefix_first_token", window(cached=True), window(cached=False))


async def _paths(bench: Workbench, contender: EngineContender) -> None:
    """Prompt tokens that are computed for twenty sampled paths ÷ for one."""
    ratios = []
    for pair in range(bench.num_few_pairs):
        counts = []
        for num_paths in (_NUM_PATHS, 1):
            before = contender.engine.num_computed_prompt_tokens
            prompt = _prefix(bench, pair, f"paths/{num_paths}")
            sampling = Sampling(
                max_tokens=_PATH_TOKENS, temperature=1.0, seed=pair, num_choices=num_paths, ignore_eos=True
            )
            await _ask(contender, prompt, sampling)
            counts.append(contender.engine.num_computed_prompt_tokens - before)
        ratios.append(counts[0] / counts[1])
    bench.figures.add("prefix_paths20_tokens", median_of(ratios, "ratio"))


async def _options(bench: Workbench, contender: EngineContender) -> None:
    """Eight options of eight tokens scored ÷ one, each after a prefix that nobody has asked with before."""

    def window(num_options: int) -> Window:
        async def measure(pair: int) -> float:
            prompt = _prefix(bench, pair, f"options/{num_options}")
            options = [_ids(bench, _OPTION_TOKENS, f"option/{pair}/{number}") for number in range(num_options)]
            return await _seconds(lambda: _score(contender, prompt, options))

        return measure

    await bench.compare("prefix_options8", window(_NUM_OPTIONS), window(1))


def _prefix(bench: Workbench, pair: int, seed: str) -> list[int]:
    return _ids(bench, _PREFIX_TOKENS + pair * 11 % _ODD, f"prefix/{pair}/{seed}")


def _ids(bench: Workbench, num_tokens: int, seed: str) -> list[int]:
    return token_ids(num_tokens, bench.base.vocab_size, seed=seed)


async def _seconds(ask: Ask) -> float:
    begin = time.perf_counter()
    await ask()
    return time.perf_counter() - begin


async def _ask(contender: EngineContender, prompt: Sequence[int], sampling: Sampling | None = None) -> None:
    sampling = sampling or Sampling(max_tokens=1, ignore_eos=True)
    async for _ in contender.engine.generate(prompt, sampling, request_id=_new_id(), adapter=None):
        pass


async def _score(contender: EngineContender, prompt: Sequence[int], options: Sequence[Sequence[int]]) -> None:
    calls = (contender.engine.score(prompt, option, request_id=_new_id(), adapter=None) for option in options)
    await asyncio.gather(*calls)


def _new_id() -> str:
    return f"prompts-{next(_numbers)}"
