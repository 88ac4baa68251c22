"""The same engine facade over vLLM's CUDA build."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import PackageNotFoundError, version

import pytest
import pytest_asyncio

from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.form import ServingForm
from graft.server.engine.engine import EngineAdapter
from graft.server.engine.vllm.engine import VllmEngine
from graft.server.engine.vllm.launch import start_engine
from tests.server.engine.making import adapters_of_all_ranks, engine_settings


@pytest.fixture(scope="session")
def cuda_engine(device: None) -> None:
    try:
        version("vllm")
    except PackageNotFoundError:
        pytest.skip("vLLM for CUDA is not installed: make setup-gpu")


@pytest.fixture(scope="session")
def base() -> Base:
    return Base.from_folder(shipped_bases()["rootstock-5m"])


@pytest_asyncio.fixture(scope="session", params=[ServingForm.BF16, ServingForm.NF4], ids=["bf16", "nf4"])
async def engine(base: Base, cuda_engine: None, request: pytest.FixtureRequest) -> AsyncIterator[VllmEngine]:
    engine = await start_engine(engine_settings(base, form=request.param))
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def adapters(base: Base, tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineAdapter, ...]:
    """Four adapters of ranks 1, 8, 16 and 64."""
    return adapters_of_all_ranks(base, tmp_path_factory.mktemp("adapters"))
