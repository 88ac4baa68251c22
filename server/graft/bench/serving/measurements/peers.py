"""Graft ÷ others' ways to serve mixed adapters, on the same machine in the same run."""

from __future__ import annotations

import gc
import importlib.util

from graft.bench.serving.figures.figures import median_of
from graft.bench.serving.measurements.receipts import add_receipts
from graft.bench.serving.measurements.workbench import Workbench, say
from graft.bench.serving.peers.contenders import Contender
from graft.bench.serving.peers.engines import ADAPTED, NUM_SLOTS
from graft.bench.serving.peers.graft_server import GraftServer
from graft.bench.serving.peers.openai import OpenAIContender, StockServer
from graft.bench.serving.peers.peft import PeftContender
from graft.bench.serving.processes import BenchFailed


async def against_stock(bench: Workbench, server: GraftServer) -> None:
    """Graft's server ÷ vLLM's own, both over HTTP with the same client, the same prompts and whole answers."""
    await add_receipts(bench.base, bench.form, bench.adapters)
    numbers = [(await server.upload(f"peer{index}", folder))[0] for index, folder in enumerate(bench.adapters)]
    models = [f"peer{index}@{number}" for index, number in enumerate(numbers)]
    ours = OpenAIContender(server.http_port, base=bench.base.name, models=models)
    say("starting stock vLLM's own server")
    stock = await StockServer.start(bench.base, bench.form, bench.adapters, bench.folder, context=bench.engines.context)
    try:
        for batch, num_adapters in ((1, 1), (32, 1), (32, NUM_SLOTS)):
            await _compare(bench, "stock", ours, stock.contender, batch, num_adapters)
    finally:
        await ours.close()
        await stock.stop()


async def against_peft(bench: Workbench) -> None:
    """Graft's engine ÷ PEFT's mixed generate."""
    peft = await PeftContender.load(bench.base, bench.form, bench.adapters)
    ours = await bench.engines.get(ADAPTED)
    try:
        for batch, num_adapters in ((1, 1), (32, NUM_SLOTS)):
            await _compare(bench, "peft", ours, peft, batch, num_adapters)
    finally:
        del peft
        gc.collect()


async def against_llama_cpp(bench: Workbench) -> None:
    """llama.cpp's server with one adapter."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise BenchFailed("llama-cpp-python is not installed")
    raise BenchFailed("llama.cpp reads GGUF files only, and no converter is installed with llama-cpp-python")


async def _compare(
    bench: Workbench, peer: str, ours: Contender, theirs: Contender, batch: int, num_adapters: int
) -> None:
    shape = f"batch{batch}_adapters{num_adapters}"
    name = f"vs_{peer}_{shape}"
    first, second = (bench.batches(contender, batch, num_adapters, name) for contender in (ours, theirs))
    pairs = await bench.compare(name, first, second, num_pairs=bench.num_few_pairs)
    bench.figures.add(f"{peer}_{shape}_tok_s", median_of([pair.second for pair in pairs], "tok/s"))
