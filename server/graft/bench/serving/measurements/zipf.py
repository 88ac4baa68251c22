"""A thousand adapters over sixteen slots: R2 and the `zipf1000` figures."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from graft.bench.serving.adapters import make_variants
from graft.bench.serving.figures.figures import RATIO, median_of
from graft.bench.serving.figures.waits import greatest_over_least_mean, percentile
from graft.bench.serving.load.arrivals import Arrival, equal_draws, mapped, poisson, zipf_draws
from graft.bench.serving.load.open_loop import Traffic, closed_loop, open_loop, requests_per_second
from graft.bench.serving.measurements.receipts import add_receipts, share_receipts
from graft.bench.serving.measurements.workbench import Window, Workbench, say
from graft.bench.serving.peers.graft_server import GraftServer
from graft.bench.serving.usage import resident_mb, slope

NUM_SLOTS = 16
_EXPONENT = 1.1
_NUM_STREAMS = 32
_NUM_EQUAL_ADAPTERS = 24
_ENOUGH = 20
_SAMPLE_SECONDS = 1.0


class Thousand:
    """A server with many registered adapters called `z0`, `z1`, …"""

    def __init__(self, bench: Workbench, server: GraftServer, num_adapters: int) -> None:
        self.bench, self.server, self.num_adapters = bench, server, num_adapters
        self._run = 0

    def traffic(self, name: str) -> Traffic:
        """Traffic whose prompts no other run has."""
        self._run += 1
        vocab_size = self.bench.base.vocab_size
        return Traffic(
            server=self.server, model_of="z{}@1".format, vocab_size=vocab_size, name=f"zipf/{self._run}/{name}"
        )

    @property
    def prefix(self) -> str:
        """What the figures' names begin with: how many adapters there are."""
        return f"zipf{self.num_adapters}"

    @property
    def num_requests(self) -> int:
        """Requests of a run: enough that a second or two at its ends do not count."""
        return 128 if self.bench.quick else 512


async def register(bench: Workbench, server: GraftServer, num_adapters: int) -> Thousand:
    """Upload them; they share eight sets of weights on disk, and nothing else."""
    variants = make_variants(list(bench.adapters), bench.folder / "variants", num_adapters)
    await add_receipts(bench.base, bench.form, bench.adapters)
    share_receipts(bench.adapters, variants)
    begin = time.monotonic()
    for number, variant in enumerate(variants):
        await server.upload(f"z{number}", variant)
        if number == 20:
            seconds = (time.monotonic() - begin) / 20 * num_adapters
            say(f"registering {num_adapters:,} adapters, about {seconds:.0f} s")
    return Thousand(bench, server, num_adapters)


async def throughput_by_number(thousand: Thousand) -> None:
    """R2: 32 callers, adapters by Zipf(1.1) among the first N ÷ all on one."""
    bench = thousand.bench

    def window(num_adapters: int, name: str) -> Window:
        async def measure(pair: int) -> float:
            draws = zipf_draws(thousand.num_requests // 2, num_adapters, exponent=_EXPONENT, seed=pair)
            traffic = thousand.traffic(f"{name}/{pair}")
            return requests_per_second(await closed_loop(traffic, draws, num_streams=_NUM_STREAMS))

        return measure

    for number in (8, 64, 1000):
        if number <= thousand.num_adapters:
            name = f"R2_registered{number}"
            await bench.compare(name, window(number, name), window(1, name), num_pairs=bench.num_few_pairs)


async def many_over_few(thousand: Thousand) -> None:
    """All `zipf1000` figures."""
    bench = thousand.bench
    capacity = await _saturation(thousand)
    say(f"saturation with {thousand.num_adapters:,} adapters: {capacity:.1f} requests/s")
    await _throughput(thousand, capacity)
    # Only now is every page of the key-value cache in use: until then memory grows by design.
    async with _memory(thousand.server.pid) as points:
        await _first_tokens(thousand, capacity)
        await _fairness(thousand, capacity)
    name, growth = f"{thousand.prefix}_memory_slope_mb_per_min", slope(points) * 60
    if bench.quick:
        bench.figures.leave_out(name, "a quick run does not fill the key-value cache first")
    else:
        bench.figures.add(name, median_of([growth], "MB/min"))


async def _saturation(thousand: Thousand) -> float:
    """Requests/s in closed loop. The first run fills slots and caches."""
    found = []
    for run in range(2):
        draws = zipf_draws(thousand.num_requests // 2, thousand.num_adapters, exponent=_EXPONENT, seed=100 + run)
        answers = await closed_loop(thousand.traffic("saturation"), draws, num_streams=_NUM_STREAMS)
        found.append(requests_per_second(answers))
    return found[-1]


async def _throughput(thousand: Thousand, capacity: float) -> None:
    def window(num_adapters: int) -> Window:
        async def measure(pair: int) -> float:
            arrivals = mapped(_zipf_arrivals(thousand, capacity * 1.5, seed=pair), num_adapters)
            return requests_per_second(await open_loop(thousand.traffic(f"throughput/{num_adapters}"), arrivals))

        return measure

    bench = thousand.bench
    first, second = window(thousand.num_adapters), window(NUM_SLOTS)
    await bench.compare(f"{thousand.prefix}_throughput_ratio", first, second, num_pairs=bench.num_few_pairs)


async def _first_tokens(thousand: Thousand, capacity: float) -> None:
    bench, ratios, medians = thousand.bench, [], []
    for run in range(bench.num_few_pairs):
        arrivals = _zipf_arrivals(thousand, capacity * 0.7, seed=1000 + run)
        answers = await open_loop(thousand.traffic("first"), arrivals)
        waits = [answer.first_token_seconds for answer in answers]
        medians.append(median(waits) * 1000)
        ratios.append(percentile(waits, 99) / median(waits))
    bench.figures.add(f"{thousand.prefix}_ttft_p99_over_median", median_of(ratios, RATIO))
    bench.figures.add(f"{thousand.prefix}_ttft_median_ms", median_of(medians, "ms"))


async def _fairness(thousand: Thousand, capacity: float) -> None:
    """More adapters than slots, each asked for equally often; a round has every adapter once."""
    num_rounds = _ENOUGH if thousand.bench.quick else 2 * _ENOUGH
    draws = equal_draws(num_rounds, min(_NUM_EQUAL_ADAPTERS, thousand.num_adapters), seed=7)
    rate = await _equal_rate(thousand, draws, capacity)
    answers = await open_loop(thousand.traffic("fairness"), poisson(draws, per_second=rate, seed=7))
    waits = [(adapter, answer.first_token_seconds) for adapter, answer in zip(draws, answers, strict=True)]
    ratio = greatest_over_least_mean(waits, enough=_ENOUGH)
    thousand.bench.figures.add(f"{thousand.prefix}_wait_max_over_min", median_of([ratio], RATIO))


async def _equal_rate(thousand: Thousand, draws: list[int], capacity: float) -> float:
    """70 % of saturation under this demand, which hits the slots less often than a Zipf demand does."""
    answers = await closed_loop(thousand.traffic("equal"), draws[: len(draws) // 4], num_streams=_NUM_STREAMS)
    return min(capacity, requests_per_second(answers)) * 0.7


def _zipf_arrivals(thousand: Thousand, per_second: float, *, seed: int) -> list[Arrival]:
    draws = zipf_draws(thousand.num_requests, thousand.num_adapters, exponent=_EXPONENT, seed=seed)
    return poisson(draws, per_second=per_second, seed=seed)


@asynccontextmanager
async def _memory(pid: int) -> AsyncIterator[list[tuple[float, float]]]:
    """(seconds, MB) of the server and its engine, once a second while the block lasts."""
    points: list[tuple[float, float]] = []

    async def sample() -> None:
        while True:
            points.append((time.monotonic(), resident_mb(pid)))
            await asyncio.sleep(_SAMPLE_SECONDS)

    task = asyncio.create_task(sample())
    try:
        yield points
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
