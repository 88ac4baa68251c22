"""An engine of several workers: each is asked what it is, and none keeps what another one refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from vllm.platforms import current_platform
from vllm.utils import jit_monitor

from graft.server.engine.engine import EngineAdapter, EngineError, LoadFailed
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.inside.managers import manager_of
from graft.server.engine.vllm.inside.plugin import WorkerReport
from tests.server.engine.vllm.devices.simulated import SETTINGS

OURS = manager_of(current_platform)
ADAPTER = EngineAdapter(digest="sha256:a", engine_id=7, path=Path("/adapter"))


class Workers:
    """vLLM's engine as far as it is asked here; `reports` are its workers', and an adapter fits none of them."""

    errored = False

    def __init__(self, sentinel: int, managers: list[str]) -> None:
        process = SimpleNamespace(pid=0, sentinel=sentinel, exitcode=None)
        manager = SimpleNamespace(processes=[process])
        self.engine_core = SimpleNamespace(resources=SimpleNamespace(engine_manager=manager))
        self._reports = [{"manager": name, "modules": {}, "slot_bytes": at} for at, name in enumerate(managers, 7)]
        self.removed: list[int] = []

    async def collective_rpc(self, name: str) -> list[dict[str, Any]]:
        return self._reports

    async def add_lora(self, request: object) -> bool:
        raise ValueError("worker 1: shapes differ")

    async def remove_lora(self, adapter_id: int) -> bool:
        self.removed.append(adapter_id)
        return False


@pytest_asyncio.fixture
async def sentinel() -> AsyncIterator[int]:
    reader, writer = os.pipe()
    yield reader
    os.close(writer)
    os.close(reader)


def engine_of(workers: Workers) -> VllmEngine:
    return VllmEngine(workers, SETTINGS, None, None, None)  # type: ignore[arg-type]


async def test_every_worker_is_asked_for_its_manager(sentinel: int) -> None:
    engine = engine_of(Workers(sentinel, [OURS, OURS]))
    assert await engine.check_lora() == 8, "stages of a pipeline may have other layers"
    engine._process.expect_end()
    lost = engine_of(Workers(sentinel, [OURS, "vllm.lora.worker_manager.LRUCacheWorkerLoRAManager"]))
    with pytest.raises(EngineError, match=r"vllm\.lora\.worker_manager\.LRUCacheWorkerLoRAManager, not with graft"):
        await lost.check_lora()
    lost._process.expect_end()


async def test_what_one_worker_refuses_stays_in_none(sentinel: int) -> None:
    """Else another one would make room for it later, with an adapter that is in use."""
    workers = Workers(sentinel, [OURS, OURS])
    engine = engine_of(workers)
    with pytest.raises(LoadFailed, match="shapes differ"):
        await engine.load(ADAPTER)
    assert workers.removed == [ADAPTER.engine_id]
    engine._process.expect_end()


def test_a_worker_tells_what_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """By vLLM's own watch over kernels, which is on once an engine has started."""
    monkeypatch.setattr(jit_monitor, "_handle_jit_event", jit_monitor._handle_jit_event)
    worker = WorkerReport()
    assert worker.graft_compilations() == []
    jit_monitor._handle_jit_event(backend="Triton", event="JIT compilation", fn_name="_ranks_kernel")
    assert worker.graft_compilations() == ["_ranks_kernel"]
