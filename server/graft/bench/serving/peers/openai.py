"""A server that speaks OpenAI's completions: Graft's own HTTP front, or stock vLLM's."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import RANK
from graft.bench.serving.peers.contenders import Row
from graft.bench.serving.processes import BenchFailed, Child

_START_SECONDS = 300.0
_FORMS: Mapping[ServingForm, tuple[str, ...]] = {
    ServingForm.BF16: ("--dtype", "bfloat16"),
    ServingForm.FP32: ("--dtype", "float32"),
    ServingForm.NF4: ("--dtype", "bfloat16", "--quantization", "bitsandbytes"),
}


class OpenAIContender:
    """Whole answers over HTTP; `models[n]` is adapter n, `base` the base."""

    def __init__(self, port: int, *, base: str, models: Sequence[str]) -> None:
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600.0, limits=limits)
        self._base, self._models = base, list(models)

    async def complete(self, rows: Sequence[Row], max_tokens: int) -> int:
        return sum(await asyncio.gather(*(self._answer(row, max_tokens) for row in rows)))

    async def _answer(self, row: Row, max_tokens: int) -> int:
        body: dict[str, Any] = {
            "model": self._base if row.adapter is None else self._models[row.adapter],
            "prompt": row.prompt,
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
        }
        reply = await self._client.post("/v1/completions", json=body)
        if reply.status_code != 200:
            raise BenchFailed(f"{body['model']} answered {reply.status_code}: {reply.text[:300]}")
        return int(reply.json()["usage"]["completion_tokens"])

    async def is_up(self) -> bool:
        """Whether it answers at all."""
        try:
            return (await self._client.get("/v1/models", timeout=5.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def close(self) -> None:
        await self._client.aclose()


class StockServer:
    """vLLM's own OpenAI server, without our plugin, with every adapter named at its start."""

    def __init__(self, child: Child, contender: OpenAIContender) -> None:
        self._child, self.contender = child, contender

    @classmethod
    async def start(
        cls, base: Base, form: ServingForm, adapters: Sequence[Path], folder: Path, *, context: int
    ) -> StockServer:
        """Wait until it answers. Raises `BenchFailed`."""
        if form not in _FORMS:
            raise BenchFailed(f"stock vLLM is not started in form {form.value}")
        port = _free_port()
        command = _command(base, form, adapters, port, context)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")}
        environment |= {
            "VLLM_PLUGINS": "bitsandbytes",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            # As in Graft's engine, and kinder to the other side of a pair.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        child = Child(command, log=folder / "stock.log", environment=environment)
        models = [f"adapter-{number}" for number in range(len(adapters))]
        server = cls(child, OpenAIContender(port, base="base", models=models))
        try:
            await server._wait()
        except BaseException:
            await server.stop()
            raise
        return server

    async def stop(self) -> None:
        await self.contender.close()
        await self._child.stop()

    async def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not await self.contender.is_up():
            self._child.check_alive()
            if time.monotonic() > deadline:
                raise BenchFailed(f"stock vLLM was not ready within {_START_SECONDS:g} s")
            await asyncio.sleep(0.3)


def _command(base: Base, form: ServingForm, adapters: Sequence[Path], port: int, context: int) -> list[str]:
    names = [f"adapter-{number}={path}" for number, path in enumerate(adapters)]
    settings = {
        "model": base.path,
        "served-model-name": "base",
        "host": "127.0.0.1",
        "port": port,
        "max-model-len": context,
        "max-num-seqs": 64,
        "max-loras": len(adapters),
        "max-cpu-loras": len(adapters),
        "max-lora-rank": RANK,
        "generation-config": "vllm",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--enforce-eager"]
    command += [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [*command, *_FORMS[form], "--enable-lora", "--lora-modules", *names]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
