"""Two environments in turn on one machine: throughput, time to first token, start-up and a training step, in pairs.

Every figure is the ratio of speeds, new over old, of the two windows of a pair: above 1 the new one is faster.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from graft.v1 import inference_pb2
from tests.running import Server, stop_server
from tests.tools.golden import trainings

_NUM_TOKENS = 32
_PROMPT = "cat -> tac\nmelon -> nolem\nbird -> drib\nstone -> enots\nwater ->"
_MIN_REQUESTS = 16
_SKIPPED_STEPS = 3
_STEPS = {
    "pretraining step": {
        "hidden-size": 128, "num-hidden-layers": 4, "num-attention-heads": 4, "vocab-size": 384, "max-length": 128,
        "per-device-train-batch-size": 8, "max-steps": 30, "text": "text.txt", "output": "base", "work": "run",
    },
    "LoRA step": {"data": "rows.jsonl", "name": "tale", "output": "run", "max-steps": 30},
}  # fmt: skip
Ratios = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two interpreters, each of an environment with its own `graft`."""

    old: str
    new: str

    def in_turn(self, number: int) -> Sequence[str]:
        """Which goes first changes from pair to pair."""
        return (self.old, self.new) if number % 2 == 0 else (self.new, self.old)


def measure(pair: Pair, *, num_rounds: int, num_pairs: int, num_streams: Sequence[int]) -> Ratios:
    """`num_pairs` pairs of windows in each of so many rounds, each with servers of its own."""
    ratios: Ratios = defaultdict(list)
    for number in range(num_rounds):
        with tempfile.TemporaryDirectory(prefix="golden-") as name, ExitStack() as servers:
            _serving_round(pair, number, Path(name), servers, num_pairs, num_streams, ratios)
        for row in _STEPS:
            seconds = {python: _step_seconds(python, row) for python in pair.in_turn(number)}
            ratios[row].append(seconds[pair.old] / seconds[pair.new])
            _say(row, ratios[row])
    return ratios


def table(ratios: Mapping[str, Sequence[float]]) -> str:
    lines = ["new / old                                  median     min     max  pairs"]
    for row, found in ratios.items():
        middle = statistics.median(found)
        lines.append(f"{row:40s} {middle:8.3f} {min(found):7.3f} {max(found):7.3f} {len(found):6d}")
    return "\n".join(lines)


def _serving_round(
    pair: Pair, number: int, work: Path, servers: ExitStack, num_pairs: int, num_streams: Sequence[int], ratios: Ratios
) -> None:
    running, seconds = {}, {}
    for python in pair.in_turn(number):
        begin = time.monotonic()
        running[python] = servers.enter_context(_server(python, work / ("old" if python == pair.old else "new")))
        seconds[python] = time.monotonic() - begin
    ratios["start-up"].append(seconds[pair.old] / seconds[pair.new])
    _say("start-up", ratios["start-up"])
    for server in running.values():
        for front in _FRONTS:
            asyncio.run(_window(front, server, max(num_streams)))
    for index in range(num_pairs):
        for front in _FRONTS:
            for num in num_streams:
                found = {python: asyncio.run(_window(front, running[python], num)) for python in pair.in_turn(index)}
                old, new = found[pair.old], found[pair.new]
                ratios[f"{front}, {num} streams, throughput"].append(new.tokens_per_second / old.tokens_per_second)
                ratios[f"{front}, {num} streams, first token"].append(old.first_seconds / new.first_seconds)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    tokens_per_second: float
    first_seconds: float


async def _window(front: str, server: Server, num_streams: int) -> _Measured:
    """Each stream asks again as soon as it has its answer; the first token's time is the median of all requests."""
    firsts: list[float] = []
    num_each = max(2, _MIN_REQUESTS // num_streams)

    async def stream(ask: Callable[[], AsyncIterator[bytes]]) -> None:
        for _ in range(num_each):
            begin, first = time.monotonic(), None
            async for _part in ask():
                first = first or time.monotonic()
            if first is None:
                raise RuntimeError(f"an answer over {front} was empty")
            firsts.append(first - begin)

    async with grpc.aio.insecure_channel(server.grpc) as channel:
        ask = _FRONTS[front](server, channel)
        begin = time.monotonic()
        await asyncio.gather(*(stream(ask) for _ in range(num_streams)))
        seconds = time.monotonic() - begin
    num_tokens = num_streams * num_each * _NUM_TOKENS
    return _Measured(tokens_per_second=num_tokens / seconds, first_seconds=statistics.median(firsts))


def _grpc(server: Server, channel: grpc.aio.Channel) -> Callable[[], AsyncIterator[bytes]]:
    request = inference_pb2.GenerateRequest(prompt=inference_pb2.Prompt(text=_PROMPT))
    request.sampling.max_tokens, request.sampling.ignore_eos = _NUM_TOKENS, True
    data, call = request.SerializeToString(), channel.unary_stream("/graft.v1.InferenceService/Generate")

    async def ask() -> AsyncIterator[bytes]:
        async for message in call(data):
            yield message

    return ask


def _http(server: Server, channel: grpc.aio.Channel) -> Callable[[], AsyncIterator[bytes]]:
    """By hand: a client library would take more of the machine than the server does."""
    body = {"model": "base", "prompt": _PROMPT, "max_tokens": _NUM_TOKENS, "ignore_eos": True, "temperature": 0}
    content = json.dumps({**body, "stream": True}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    data = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
    address = urlsplit(server.http)

    async def ask() -> AsyncIterator[bytes]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(data)
        whole = False
        async for line in reader:
            if line.startswith(b"data: {"):
                yield line
            whole = whole or line.startswith(b"data: [DONE]")
        writer.close()
        if not whole:
            raise RuntimeError("an answer over HTTP did not end")

    return ask


_FRONTS: Mapping[str, Callable[[Server, grpc.aio.Channel], Callable[[], AsyncIterator[bytes]]]] = {
    "gRPC": _grpc,
    "HTTP": _http,
}


@contextmanager
def _server(python: str, work: Path) -> Iterator[Server]:
    work.mkdir()
    ready, log = work / "ready.json", work / "server.log"
    command = [python, "-m", "graft.cli.main", "serve", "--grpc-port", "0", "--http-port", "0"]
    command += ["--data-dir", str(work / "data"), "--ready-file", str(ready), "--canary-interval-seconds", "3600"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment(python), cwd=work)
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError(f"{python}: the server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.02)
    ports = json.loads(ready.read_text())
    server = Server(process, f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['http_port']}", log)
    try:
        yield server
    finally:
        stop_server(server)


def _step_seconds(python: str, row: str) -> float:
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        work = Path(name)
        trainings.write_data(work)
        command = [python, "-m", "graft.cli.main", "finetune" if "LoRA" in row else "pretrain"]
        done = subprocess.run(
            [*command, *trainings.flags(_STEPS[row])],
            cwd=work, env=_environment(python), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{python}: the training ended with {done.returncode}:\n{done.stderr[-4000:]}")
        lines = (work / "run/metrics.jsonl").read_text().splitlines()
        return statistics.median(json.loads(line)["seconds"] for line in lines[_SKIPPED_STEPS:])


def _environment(python: str) -> dict[str, str]:
    """Its own commands first: the engine's processes find their tools there."""
    return {**os.environ, "PATH": f"{Path(python).parent}:{os.environ['PATH']}"}


def _say(row: str, found: Sequence[float]) -> None:
    print(f"{row}: {found[-1]:.3f}", file=sys.stderr, flush=True)


def as_json(ratios: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {row: {"median": statistics.median(found), "ratios": list(found)} for row, found in ratios.items()}
