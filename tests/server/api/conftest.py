"""A whole server in the test's own event loop, on a scripted engine and a tiny base."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import openai
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from graft.adapters.base.base import Base
from graft.server.assembly import Assembly
from graft.server.assembly import Server as RunningServer
from graft.server.operations.metrics import Metrics
from graft.server.settings.settings import Settings
from graft.v1 import adapter_pb2, adapter_pb2_grpc, inference_pb2_grpc, server_pb2_grpc
from tests.adapters.making import make_adapter, make_base
from tests.server.api.scripted.engine import Script, ScriptedEngineFactory


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server and its callers."""

    running: RunningServer
    settings: Settings
    metrics: Metrics
    script: Script
    base: Base
    channel: grpc.aio.Channel
    http: httpx.AsyncClient
    openai: openai.AsyncOpenAI
    folder: Path

    @property
    def grpc_port(self) -> int:
        return self.running.ports.grpc

    @property
    def http_port(self) -> int:
        return self.running.ports.http

    @property
    def inference(self) -> inference_pb2_grpc.InferenceServiceAsyncStub:
        return inference_pb2_grpc.InferenceServiceStub(self.channel)

    @property
    def adapters(self) -> adapter_pb2_grpc.AdapterServiceAsyncStub:
        return adapter_pb2_grpc.AdapterServiceStub(self.channel)

    @property
    def server(self) -> server_pb2_grpc.ServerServiceAsyncStub:
        return server_pb2_grpc.ServerServiceStub(self.channel)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        samples = (sample for metric in self.metrics.registry.collect() for sample in metric.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    async def imported(self, name: str, *, seed: int, adapter: str | None = None) -> adapter_pb2.AdapterVersion:
        """A new adapter version with other weights for each seed."""
        folder = make_adapter(self.folder / f"{name}-{seed}", seed=seed, base=self.base)
        request = adapter_pb2.ImportVersionRequest(adapter=adapter or name, path=str(folder))
        return (await self.adapters.ImportVersion(request)).version

    async def point(self, adapter: str, alias: str, version: str, **others: Any) -> adapter_pb2.SetAliasResponse:
        request = adapter_pb2.SetAliasRequest(adapter=adapter, alias=alias, version=version, **others)
        return await self.adapters.SetAlias(request)


StartServer = Callable[..., Awaitable[Server]]


@pytest_asyncio.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Starts servers with other settings: `await start_server(max_running=1)`."""
    async with AsyncExitStack() as resources:

        async def start(**settings: Any) -> Server:
            return await _start(tmp_path, settings, resources)

        yield start


@pytest_asyncio.fixture
async def server(start_server: StartServer) -> Server:
    return await start_server()


async def _start(folder: Path, given: dict[str, Any], resources: AsyncExitStack) -> Server:
    path = folder / "bases" / given.pop("base_name", "tiny")
    base = Base.from_folder(path) if path.exists() else make_base(path)
    defaults: dict[str, Any] = {
        "base": str(base.path),
        "grpc_port": 0,
        "http_port": 0,
        "data_dir": folder / "data",
        "num_slots": 2,
        "max_rank": 16,
        "import_roots": (folder,),
        # There is no base here that peft could load.
        "parity": "recorded",
        # A script that hangs is no engine to be replaced here: that is tested at the supervisor.
        "canary_interval_seconds": 3600.0,
    }
    script = Script()
    script.start_allowed.set()
    settings, metrics = Settings(**{**defaults, **given}), Metrics(CollectorRegistry())
    running = await Assembly(settings, ScriptedEngineFactory(script), metrics, resources).server(
        end=lambda drain_seconds: None, failed=lambda reason: None
    )
    host = {"::": "[::1]", "::1": "[::1]"}.get(settings.host, "127.0.0.1")
    url = f"http://{host}:{running.ports.http}"
    http = await resources.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20))
    return Server(
        running=running,
        settings=settings,
        metrics=metrics,
        script=script,
        base=base,
        channel=await resources.enter_async_context(grpc.aio.insecure_channel(f"{host}:{running.ports.grpc}")),
        http=http,
        openai=await resources.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        ),
        folder=folder,
    )


@pytest.fixture(autouse=True)
def quiet_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", logger="graft.access")
