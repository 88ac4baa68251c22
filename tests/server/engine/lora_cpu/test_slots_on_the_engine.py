"""What enters a slot on the real engine: images, adapters of some slices only, and those that do not fit."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from graft.adapters.base.base import Base
from graft.server.engine.engine import EngineAdapter, EngineDied, LoadFailed
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.launch import start_engine
from tests.server.engine.making import engine_settings, peft_logprobs, write_adapter

PROMPT, CONTINUATION = "Once upon a time there was", " a small fox"
# vLLM packs q, k, v into one module and gate, up into another: any of their slices may be left alone.
TARGETS = (["q_proj"], ["k_proj"], ["v_proj", "o_proj"], ["q_proj", "down_proj"], ["gate_proj"], ["up_proj"])


async def test_adapters_come_as_images(engine: VllmEngine, adapters: Sequence[EngineAdapter]) -> None:
    """Else they would be parsed and cast inside the engine's loop."""
    await engine.load(adapters[0])
    request = engine.lora_request(adapters[0])
    assert request is not None
    assert Path(request.lora_path).is_file()
    await engine.unload(adapters[0])


@pytest.mark.parametrize("targets", TARGETS, ids="+".join)
async def test_slices_that_an_adapter_leaves_alone(
    engine: VllmEngine, base: Base, tmp_path: Path, targets: list[str]
) -> None:
    """The oracle: peft on the same base in float32."""
    modules = {name: shape for name, shape in base.modules.items() if name.rpartition(".")[2] in targets}
    folder = write_adapter(tmp_path / "adapter", modules, rank=8, seed=5)
    tokenize = engine.llm.get_tokenizer()
    prompt = tokenize(PROMPT)["input_ids"]
    ids = [*prompt, *tokenize(CONTINUATION, add_special_tokens=False)["input_ids"]]
    adapter = EngineAdapter(
        digest=f"sha256:partial-{'-'.join(targets)}", engine_id=100 + TARGETS.index(targets), path=folder
    )
    await engine.load(adapter)
    score = await engine.score(prompt, ids[len(prompt) :], request_id=adapter.digest, adapter=adapter)
    await engine.unload(adapter)
    wanted = peft_logprobs(base, folder, ids, len(prompt), dtype="float32")
    assert [token.logprob for token in score.tokens] == pytest.approx(wanted, abs=2e-3)


async def test_adapters_that_do_not_fit_leave_no_trace(
    engine: VllmEngine, base: Base, adapters: Sequence[EngineAdapter], tmp_path: Path
) -> None:
    layers = {name: (out, inputs + 1) for name, (out, inputs) in base.modules.items() if ".layers." in name}
    misshapen = write_adapter(tmp_path / "misshapen", layers, rank=8, seed=6)
    layers = {name: shape for name, shape in base.modules.items() if ".layers." in name}
    too_large = write_adapter(tmp_path / "large", layers, rank=65, seed=6)
    for number in range(6):
        with pytest.raises(LoadFailed, match="do not fit"):
            await engine.load(EngineAdapter(digest=f"sha256:bad-{number}", engine_id=200 + number, path=misshapen))
    with pytest.raises(LoadFailed, match="rank 65"):
        await engine.load(EngineAdapter(digest="sha256:large", engine_id=210, path=too_large))
    assert not await engine.loaded()
    for adapter in adapters:
        await engine.load(adapter)
    assert len(await engine.loaded()) == len(adapters)
    for adapter in adapters:
        await engine.unload(adapter)


@pytest.mark.slow
async def test_a_load_that_waits_for_a_hung_engine_ends_with_it(base: Base, adapters: Sequence[EngineAdapter]) -> None:
    engine = await start_engine(engine_settings(base))
    os.kill(engine.pid, signal.SIGSTOP)
    load = asyncio.create_task(engine.load(adapters[0]))
    await asyncio.wait({load}, timeout=1.0)
    assert not load.done()
    await engine.close()
    with pytest.raises(EngineDied):
        await asyncio.wait_for(load, 10)
