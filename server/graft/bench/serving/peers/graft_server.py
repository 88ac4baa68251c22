"""`graft serve` as a child process, spoken to in raw gRPC as any caller would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import grpc
import grpc.aio

from graft.adapters.base.base import Base
from graft.adapters.form import ServingForm
from graft.bench.serving.adapters import RANK
from graft.bench.serving.processes import BenchFailed, Child
from graft.client.upload import upload_requests
from graft.v1 import adapter_pb2, adapter_pb2_grpc, inference_pb2, inference_pb2_grpc

_START_SECONDS, _CALL_SECONDS = 240.0, 600.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One request as its caller saw it; times in seconds of the monotonic clock. `error` is empty where none came."""

    begin: float
    end: float
    arrivals: tuple[float, ...]
    num_tokens: int
    error: str = ""

    @property
    def first_token_seconds(self) -> float:
        """Time to the first token. Raises `BenchFailed` where none came."""
        if not self.arrivals:
            raise BenchFailed(f"a request gave no token: {self.error or 'it ended at once'}")
        return self.arrivals[0] - self.begin


def largest_gap(arrivals: Sequence[Sequence[float]], begin: float, end: float) -> float:
    """The longest wait between two tokens of one stream, in seconds, among the waits that touch the window."""
    gaps = [
        later - earlier for stream in arrivals for earlier, later in pairwise(stream) if later > begin and earlier < end
    ]
    if not gaps:
        raise BenchFailed("no stream gave two tokens in a window")
    return max(gaps)


class GraftServer:
    """From `start` to `stop`."""

    def __init__(self, child: Child, port: int, http_port: int) -> None:
        self._child = child
        self.http_port = http_port
        self.address = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(self.address, options=[("grpc.max_send_message_length", 16 << 20)])
        self._inference = inference_pb2_grpc.InferenceServiceStub(self.channel)
        self._adapters = adapter_pb2_grpc.AdapterServiceStub(self.channel)

    @classmethod
    async def start(cls, base: Base, form: ServingForm, folder: Path, *, num_slots: int, context: int) -> GraftServer:
        """A ready server with its data below `folder`. Raises `BenchFailed`."""
        folder.mkdir(parents=True, exist_ok=True)
        ready = folder / "ready.json"
        ready.unlink(missing_ok=True)
        settings = {
            "base": base.path,
            "quantization": form.value,
            "num-slots": num_slots,
            "max-rank": RANK,
            "max-model-tokens": context,
            "max-queued": 100_000,
            "default-deadline-seconds": 1200,
            "control-deadline-seconds": 600,
            "canary-timeout-seconds": 120,
            # What is uploaded brings a trainer's reference; nothing is to wait for one from peft.
            "parity": "recorded",
            "grpc-port": 0,
            "http-port": 0,
            "data-dir": folder / "data",
            "ready-file": ready,
        }
        flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAFT_")}
        command = [sys.executable, "-m", "graft.cli.main", "serve", *flags]
        child = Child(command, log=folder / "server.log", environment=environment)
        try:
            ports = await _ports(child, ready)
        except BaseException:
            await child.stop()
            raise
        return cls(child, ports["grpc_port"], ports["http_port"])

    @property
    def pid(self) -> int:
        return self._child.pid

    async def stop(self) -> None:
        """End it and all below it."""
        await self.channel.close()
        await self._child.stop()

    async def ask(
        self, model: str, prompt: Sequence[int], max_tokens: int, *, into: list[float] | None = None
    ) -> Answer:
        """One greedy, streamed request past any end token. `into` gets the arrivals as they come."""
        arrivals: list[float] = [] if into is None else into
        request = inference_pb2.GenerateRequest(
            model=model,
            prompt=inference_pb2.Prompt(token_ids=inference_pb2.TokenIds(ids=prompt)),
            sampling=inference_pb2.Sampling(max_tokens=max_tokens, temperature=0.0, ignore_eos=True),
        )
        begin, num_tokens, error = time.monotonic(), 0, ""
        try:
            async for reply in self._inference.Generate(request, timeout=_CALL_SECONDS):
                if reply.token_ids:
                    arrivals.append(time.monotonic())
                    num_tokens += len(reply.token_ids)
        except grpc.aio.AioRpcError as failure:
            error = _described(failure)
        end = time.monotonic()
        return Answer(begin=begin, end=end, arrivals=tuple(arrivals), num_tokens=num_tokens, error=error)

    async def upload(self, name: str, folder: Path) -> tuple[int, float]:
        """Register a version; returns its number and when the last byte was handed to gRPC (monotonic clock)."""
        last_byte = 0.0

        async def parts() -> AsyncIterator[adapter_pb2.UploadVersionRequest]:
            nonlocal last_byte
            for part in messages:
                yield part
            last_byte = time.monotonic()

        messages = list(upload_requests(folder, name=name, allow_noop=False, allow_other_quantization=True))
        with _refusals():
            reply = await self._adapters.UploadVersion(parts(), timeout=_CALL_SECONDS)
        return reply.version.number, last_byte

    async def set_alias(self, name: str, alias: str, number: int) -> None:
        """The hot swap: answers when the version is in the engine."""
        request = adapter_pb2.SetAliasRequest(adapter=name, alias=alias, version=str(number))
        with _refusals():
            await self._adapters.SetAlias(request, timeout=_CALL_SECONDS)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        raise BenchFailed(_described(failure)) from failure


def _described(failure: grpc.aio.AioRpcError) -> str:
    return f"{failure.code().name}: {failure.details()}"


async def _ports(child: Child, ready: Path) -> dict[str, int]:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        child.check_alive()
        if ready.exists() and (text := ready.read_text(encoding="utf-8")):
            return dict(json.loads(text))
        await asyncio.sleep(0.1)
    raise BenchFailed(f"the server was not ready within {_START_SECONDS:g} s")
