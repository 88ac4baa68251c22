"""Figures of the engine alone: R1, R3, R4, R6 and long prefills. No server, no transport."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from graft.bench.serving.figures.figures import median_of
from graft.bench.serving.measurements.workbench import Pair, Window, Workbench, say
from graft.bench.serving.peers.contenders import EngineContender, Row, throughput, token_ids
from graft.bench.serving.peers.engines import ADAPTED, BARE, MERGED, NUM_SLOTS
from graft.bench.serving.processes import BenchFailed
from graft.bench.serving.usage import cpu_seconds, forget_peak, peak_mb, resident_mb

_PREFILL_TOKENS = 2048
_IDLE_SECONDS, _MAX_IDLE_SHARE = 3.0, 0.1
_SHARED_TOKENS, _OWN_TOKENS = 512, 32


async def adapter_over_base(bench: Workbench) -> None:
    """R4: throughput with adapters ÷ LoRA off; R4_idle: adapters loaded but unused ÷ LoRA off."""
    bare, adapted = await bench.engines.get(BARE), await bench.engines.get(ADAPTED)
    await _check_idle(bench, bare, idle=adapted)
    for batch, num_adapters, name in (
        (1, 1, "R4_batch1"),
        (32, 1, "R4_batch32_adapters1"),
        (32, 8, "R4_batch32_adapters8"),
        (32, 0, "R4_idle"),
    ):
        first = bench.batches(adapted, batch, num_adapters, name)
        second = bench.batches(bare, batch, 0, name)
        pairs = await bench.compare(name, first, second)
        if name != "R4_idle":
            _add_speeds(bench, name.removeprefix("R4_"), pairs)


def _add_speeds(bench: Workbench, name: str, pairs: list[Pair]) -> None:
    bench.figures.add(f"graft_{name}_tok_s", median_of([pair.first for pair in pairs], "tok/s"))
    if not name.endswith("adapters8"):
        bench.figures.add(f"base_{name.split('_')[0]}_tok_s", median_of([pair.second for pair in pairs], "tok/s"))


async def _check_idle(bench: Workbench, busy: EngineContender, *, idle: EngineContender) -> None:
    """An engine that waits must leave the cores to the other. Raises `BenchFailed`."""
    used, begin, number = cpu_seconds(idle.engine.pid), time.monotonic(), 0
    while time.monotonic() < begin + _IDLE_SECONDS:
        await busy.complete(bench.rows(8, 0, f"idle/{number}"), 16)
        number += 1
    share = (cpu_seconds(idle.engine.pid) - used) / (time.monotonic() - begin)
    say(f"the engine that waits takes {100 * share:.1f} % of a core")
    if share > _MAX_IDLE_SHARE:
        raise BenchFailed(f"the engine that waits takes {100 * share:.0f} % of a core from the other")


async def mixed_over_swapping(bench: Workbench) -> None:
    """R1: 32 requests to 8 adapters in one batch ÷ adapter after adapter, each loaded for its own four."""
    adapted = await bench.engines.get(ADAPTED)

    async def mixed(pair: int) -> float:
        await _only_loaded(adapted, set(range(NUM_SLOTS)))
        return await throughput(adapted, bench.rows(32, NUM_SLOTS, f"R1/{pair}/mixed"), 64)

    async def swapping(pair: int) -> float:
        await _only_loaded(adapted, set())
        rows = bench.rows(32, NUM_SLOTS, f"R1/{pair}/swapping")
        begin = time.perf_counter()
        for number, adapter in enumerate(adapted.adapters):
            await adapted.engine.load(adapter)
            await throughput(adapted, [row for row in rows if row.adapter == number], 64)
            await adapted.engine.unload(adapter)
        return len(rows) * 64 / (time.perf_counter() - begin)

    try:
        await bench.compare("R1", mixed, swapping)
    finally:
        await _only_loaded(adapted, set(range(NUM_SLOTS)))


async def merged_over_unmerged(bench: Workbench) -> None:
    """R3: the adapter added into the weights, LoRA off ÷ the adapter in a slot."""
    bench.engines.merged = _merged(bench.base.path, bench.adapters[0], bench.folder / "merged")
    adapted, merged = await bench.engines.get(ADAPTED), await bench.engines.get(MERGED)
    for batch in (1, 32):
        name = f"R3_batch{batch}"
        await bench.compare(name, bench.batches(merged, batch, 0, name), bench.batches(adapted, batch, 1, name))
    await bench.engines.close(MERGED)


async def cached_over_uncached(bench: Workbench) -> None:
    """R6: few-shot prompts of 544 tokens whose first 512 are shared ÷ prompts of the same length that share nothing."""
    adapted = await bench.engines.get(ADAPTED)

    def window(shared: bool) -> Window:
        async def measure(pair: int) -> float:
            return await throughput(adapted, _few_shot_rows(bench, pair, shared=shared), 8)

        return measure

    await bench.compare("R6", window(True), window(False))


def _few_shot_rows(bench: Workbench, pair: int, *, shared: bool) -> list[Row]:
    vocab_size, rows = bench.base.vocab_size, []
    for number in range(16):
        whose = "shared" if shared else f"own/{pair}/{number}"
        examples = token_ids(_SHARED_TOKENS, vocab_size, seed=f"R6/{whose}")
        question = token_ids(_OWN_TOKENS, vocab_size, seed=f"R6/question/{pair}/{number}")
        rows.append(Row(prompt=[*examples, *question], adapter=0))
    return rows


async def long_prefill(bench: Workbench) -> None:
    """A 2,048-token prefill with an adapter: time against LoRA off, and the memory it takes.

    Memory comes first, in engines that never saw a long prompt: an allocator keeps what it was once given.
    """
    if bench.context <= _PREFILL_TOKENS:
        raise BenchFailed(f"the base's context of {bench.context} tokens is shorter than {_PREFILL_TOKENS}")
    with_adapter = await _prefill_peak(bench, ADAPTED, adapter=0)
    without = await _prefill_peak(bench, BARE, adapter=None)
    bench.figures.add("prefill_peak_above_rest_mb", median_of([with_adapter], "MB"))
    bench.figures.add("prefill_base_peak_above_rest_mb", median_of([without], "MB"))
    bench.figures.add("prefill_peak_mb", median_of([with_adapter - without], "MB"))
    bare, adapted = await bench.engines.get(BARE), await bench.engines.get(ADAPTED)
    first = _prefill_window(bench, adapted, 0)
    pairs = await bench.compare("prefill2048_adapter_ratio", first, _prefill_window(bench, bare, None))
    bench.figures.add("prefill2048_base_ms", median_of([pair.second * 1000 for pair in pairs], "ms"))


async def _prefill_peak(bench: Workbench, kind: str, *, adapter: int | None) -> float:
    contender = await bench.engines.fresh(kind)
    await contender.complete(bench.rows(1, 0 if adapter is None else 1, "prefill/first"), 4)
    pid = contender.engine.pid
    rest = resident_mb(pid)
    forget_peak(pid)
    await contender.complete([_long_row(bench, adapter, "prefill/peak")], 1)
    return peak_mb(pid) - rest


def _prefill_window(bench: Workbench, contender: EngineContender, adapter: int | None) -> Window:
    async def seconds(pair: int) -> float:
        row = _long_row(bench, adapter, f"prefill/{pair}")
        begin = time.perf_counter()
        await contender.complete([row], 1)
        return time.perf_counter() - begin

    return seconds


def _long_row(bench: Workbench, adapter: int | None, seed: str) -> Row:
    return Row(prompt=token_ids(_PREFILL_TOKENS, bench.base.vocab_size, seed=seed), adapter=adapter)


async def _only_loaded(contender: EngineContender, wanted: set[int]) -> None:
    present = await contender.engine.loaded()
    for number, adapter in enumerate(contender.adapters):
        if adapter.engine_id in present and number not in wanted:
            await contender.engine.unload(adapter)
        if adapter.engine_id not in present and number in wanted:
            await contender.engine.load(adapter)


def _merged(base: Path, adapter: Path, target: Path) -> Path:
    """Write `base + scale·B·A` to `target`, everything else as it was. The sums are made in fp32."""
    import torch
    from safetensors.torch import load_file, save_file

    if (target / "config.json").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    update = load_file(adapter / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    scale = config["lora_alpha"] / config["r"]
    for file in sorted(base.glob("*.safetensors")):
        weights = load_file(file)
        for name, weight in weights.items():
            key = f"base_model.model.{name.removesuffix('.weight')}"
            if f"{key}.lora_A.weight" in update:
                change = update[f"{key}.lora_B.weight"].float() @ update[f"{key}.lora_A.weight"].float()
                weights[name] = (weight.float() + scale * change).to(torch.bfloat16)
        save_file(weights, target / file.name, metadata={"format": "pt"})
    for file in base.iterdir():
        if file.is_file() and file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, target)
    # The configuration comes last: a folder that has one is complete.
    shutil.copy(base / "config.json", target)
    return target
