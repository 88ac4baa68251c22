"""Real engines on the shipped base, one per kind and session, and adapters with a strong, known effect."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineAdapter
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.launch import start_engine
from tests.server.engine.making import adapters_of_all_ranks, engine_settings

BASE = "rootstock-5m"


@pytest.fixture(scope="session")
def base() -> Base:
    return Base.from_folder(shipped_bases()[BASE])


@pytest_asyncio.fixture(scope="session")
async def engine(base: Base) -> AsyncIterator[VllmEngine]:
    """Float32, so that equal means equal."""
    engine = await start_engine(engine_settings(base))
    yield engine
    await engine.close()


@pytest_asyncio.fixture
async def bf16_engine(base: Base) -> AsyncIterator[VllmEngine]:
    engine = await start_engine(engine_settings(base, form=ServingForm.BF16))
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def adapters(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineAdapter, ...]:
    """Four adapters of ranks 1, 8, 16 and 64."""
    return adapters_of_all_ranks(base, tmp_path_factory.mktemp("adapters"))
