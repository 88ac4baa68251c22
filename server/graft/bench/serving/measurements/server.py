"""Figures through the running server: R5, R7 and R8."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import mean

from graft.bench.serving.adapters import make_adapter, make_variants, size_mb
from graft.bench.serving.figures.figures import median_of
from graft.bench.serving.load.arrivals import equal_draws, poisson
from graft.bench.serving.load.open_loop import Traffic, closed_loop, open_loop, requests_per_second
from graft.bench.serving.load.streams import Streams
from graft.bench.serving.measurements.receipts import add_receipts, share_receipts
from graft.bench.serving.measurements.workbench import Pair, Window, Workbench, measure_pairs, say
from graft.bench.serving.peers.contenders import token_ids
from graft.bench.serving.peers.graft_server import GraftServer

_NUM_SLOTS = 8
_NUM_STREAMS = 16
_NUM_VERSIONS = 12
_LOADS_PER_WINDOW = 2
_MIN_WINDOWS = 10


@asynccontextmanager
async def server_of(bench: Workbench, *, num_slots: int) -> AsyncIterator[GraftServer]:
    """A server for as long as the block lasts; the engines are closed for it."""
    await bench.engines.close_all()
    say(f"starting a server with {num_slots} slots")
    folder = bench.folder / f"server-{num_slots}-{time.monotonic_ns()}"
    context = bench.engines.context
    server = await GraftServer.start(bench.base, bench.form, folder, num_slots=num_slots, context=context)
    try:
        yield server
    finally:
        await server.stop()


async def registration(bench: Workbench, server: GraftServer) -> None:
    """R7: the last byte of an upload → the first token of its version, in ms; every check included."""
    num_runs = 2 if bench.quick else max(5, bench.num_pairs)
    folders = [
        make_adapter(bench.base, bench.folder / f"registered-{number}", seed=1000 + number)
        for number in range(num_runs + 1)
    ]
    say(f"R7: reference log-probabilities for {len(folders)} adapters of {size_mb(folders[0]):.1f} MB")
    await add_receipts(bench.base, bench.form, folders)
    runs = [await _registration_ms(bench, server, number, folder) for number, folder in enumerate(folders)]
    bench.figures.add("R7_ms", median_of(runs[1:], "ms"))  # the first one warms up


async def _registration_ms(bench: Workbench, server: GraftServer, number: int, folder: Path) -> float:
    prompt = token_ids(64, bench.base.vocab_size, seed=f"R7/{number}")
    version, last_byte = await server.upload("registered", folder)
    answer = await server.ask(f"registered@{version}", prompt, 1)
    return (answer.begin + answer.first_token_seconds - last_byte) * 1000


async def working_set(bench: Workbench, server: GraftServer) -> None:
    """R5: mean time to first token with twice as many adapters in use as slots ÷ with three quarters as many."""
    within, over = _NUM_SLOTS * 3 // 4, _NUM_SLOTS * 2
    variants = make_variants(list(bench.adapters), bench.folder / "variants", over)
    await add_receipts(bench.base, bench.form, bench.adapters)
    share_receipts(bench.adapters, variants)
    for number, variant in enumerate(variants):
        await server.upload(f"w{number}", variant)

    def traffic(name: str) -> Traffic:
        return Traffic(server=server, model_of="w{}@1".format, vocab_size=bench.base.vocab_size, name=name)

    saturated = await closed_loop(traffic("R5/rate"), equal_draws(16, within, seed=5), num_streams=16)
    rate = requests_per_second(saturated) * 0.3

    def window(num_adapters: int) -> Window:
        async def measure(pair: int) -> float:
            draws = equal_draws(96 // num_adapters, num_adapters, seed=pair)
            answers = await open_loop(traffic(f"R5/{pair}/{num_adapters}"), poisson(draws, per_second=rate, seed=pair))
            return mean(answer.first_token_seconds for answer in answers)

        return measure

    pairs = await bench.compare("R5", window(over), window(within), num_pairs=bench.num_few_pairs)
    bench.figures.add("R5_over_ms", median_of([pair.first * 1000 for pair in pairs], "ms"))
    bench.figures.add("R5_within_ms", median_of([pair.second * 1000 for pair in pairs], "ms"))


async def swap_pause(bench: Workbench, server: GraftServer) -> None:
    """R8: largest inter-token gap of 16 streams in windows with two swaps ÷ in windows without."""
    await add_receipts(bench.base, bench.form, bench.adapters)
    variants = make_variants(list(bench.adapters), bench.folder / "variants", _NUM_VERSIONS)
    share_receipts(bench.adapters, variants)
    # The streams hold version 1; the others take turns in the remaining slots, fewer than they are.
    first, *numbers = [(await server.upload("swapped", variant))[0] for variant in variants]
    streams = Streams(
        server,
        model=f"swapped@{first}",
        num_streams=_NUM_STREAMS,
        vocab_size=bench.base.vocab_size,
        context=bench.engines.context,
    )
    seconds = 1.5 if bench.quick else 3.0
    turn = 0

    async def with_loads(_: int) -> float:
        async def load() -> None:
            nonlocal turn
            for _ in range(_LOADS_PER_WINDOW):
                await asyncio.sleep(seconds / (_LOADS_PER_WINDOW + 1))
                await server.set_alias("swapped", "stable", numbers[turn % len(numbers)])
                turn += 1

        return await streams.largest_gap(seconds, meanwhile=load)

    async def without(_: int) -> float:
        return await streams.largest_gap(seconds)

    num_windows = 3 if bench.quick else max(_MIN_WINDOWS, bench.num_pairs)
    say(f"R8: {num_windows} paired windows of {seconds:g} s, {_NUM_STREAMS} streams")
    try:
        pairs = await measure_pairs(with_loads, without, num_windows)
    finally:
        await streams.stop()
    _add_swap_pause(bench, pairs)


def _add_swap_pause(bench: Workbench, pairs: list[Pair]) -> None:
    bench.figures.add("R8", median_of([pair.ratio for pair in pairs], "ratio"))
    bench.figures.add("R8_gap_with_loads_ms", median_of([pair.first * 1000 for pair in pairs], "ms"))
    bench.figures.add("R8_gap_without_ms", median_of([pair.second * 1000 for pair in pairs], "ms"))
