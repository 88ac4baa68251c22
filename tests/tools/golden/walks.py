"""Which files one request, one upload, one engine's death, one training and one resumed training pass through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import grpc
import httpx

from graft.v1 import adapter_pb2, server_pb2
from tests.running import Server, stop_server
from tests.tools.golden import trainings
from tests.tools.golden.folders import upload, write_adapter

_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
# What goes on behind a reply has ended by then.
_SETTLED_SECONDS = 1.0
_MOST_VISITS = 2
"""Of a room on one walk: on the way in and on the way out."""
_ASIDE = (
    # Values and tools that everything shares, what serving asks of an engine, observers.
    "graft.adapters.adapter", "graft.adapters.digest", "graft.adapters.errors", "graft.adapters.form",
    "graft.adapters.names", "graft.adapters.text", "graft.server.errors", "graft.server.engine.engine",
    "graft.server.engine.openai", "graft.server.operations", "graft.server.runtime", "graft.server.settings",
    "graft.training.errors", "graft.training.runtime", "graft.training.settings",
    # What goes by the clock.
    "graft.server.engine.vllm.heartbeat",
)  # fmt: skip
"""Rooms and files that no walk visits: whoever needs them has them at hand."""


def record() -> dict[str, Any]:
    """For each walk its files in order of first entry, how many files and rooms these are, and how often it visits the
    rooms that it visits more than twice.
    """
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        work = Path(name)
        return {row: _counted(modules) for row, modules in [*_answered(work), *_managed(work), *_trained(work)]}


def table(found: Mapping[str, Any]) -> str:
    lines = []
    for row, one in found.items():
        often = ", ".join(f"{room} {num}" for room, num in one["num_visits"].items()) or "none"
        lines.append(
            f"{row}: {one['num_files']} files, {one['num_rooms']} rooms; more than {_MOST_VISITS} visits: {often}"
        )
        lines += [f"  {step}" for step in one["walk"]]
    return "\n".join(lines)


def room_of(module: str) -> str:
    """`graft.server.api` of `graft.server.api.http.app`: a file beside the rooms is a room of its own."""
    return ".".join(module.split(".")[:3])


def _counted(modules: Sequence[str]) -> dict[str, Any]:
    rooms = [(room, list(inside)) for room, inside in groupby(modules, key=room_of)]
    on_the_way = [room_of(one) for one in modules if not {one, room_of(one)}.intersection(_ASIDE)]
    visits = Counter(room for room, _ in groupby(on_the_way))
    return {
        "num_files": len(modules),
        "num_rooms": len({room for room, _ in rooms}),
        "num_visits": {room: num for room, num in visits.most_common() if num > _MOST_VISITS},
        "walk": [f"{room}: {', '.join(one.removeprefix(room).strip('.') for one in inside)}" for room, inside in rooms],
    }


def _answered(work: Path) -> Iterator[tuple[str, list[str]]]:
    with _server(work / "answered") as (server, walked):
        # A connection for each request: what one leaves behind would end during the next.
        http = httpx.Client(base_url=server.http, timeout=120, headers={"connection": "close"})
        channel = grpc.insecure_channel(server.grpc)
        asked = {"model": "base", "messages": [{"role": "user", "content": "12+35?"}], "max_tokens": 8}
        for row, extra in (("chat, whole", {}), ("chat, streamed", {"stream": True})):
            ask = partial(http.post, "/v1/chat/completions", json={**asked, **extra})
            ask().raise_for_status()
            yield row, walked(ask)
        generate = channel.unary_stream("/graft.v1.InferenceService/Generate")
        message = b"\x12\x03\x0a\x01a"  # prompt.text = "a"
        list(generate(message))
        yield "Generate", walked(lambda: list(generate(message)))
        channel.close()
        http.close()


def _managed(work: Path) -> Iterator[tuple[str, list[str]]]:
    """In a server of its own, since a minute after its start it begins to collect files."""
    with _server(work / "managed") as (server, walked), grpc.insecure_channel(server.grpc) as channel:
        push = channel.stream_unary(
            "/graft.v1.AdapterService/UploadVersion",
            request_serializer=adapter_pb2.UploadVersionRequest.SerializeToString,
        )
        one, two = (upload(write_adapter(work / str(seed), seed=seed), "tale", alias="stable") for seed in (1, 2))
        push(iter(one))
        yield "upload and alias move", walked(lambda: push(iter(two)))

        info = channel.unary_unary(
            "/graft.v1.ServerService/GetInfo", response_deserializer=server_pb2.GetInfoResponse.FromString
        )
        pid = info(b"").engine_pid
        health = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(health) == _SERVING
        yield "engine death", walked(lambda: _die(pid, health))
        health.cancel()


def _die(pid: int, health: Iterator[bytes]) -> None:
    os.kill(pid, signal.SIGKILL)
    while next(health) != _NOT_SERVING:
        pass
    while next(health) != _SERVING:
        pass


@contextmanager
def _server(work: Path) -> Iterator[tuple[Server, Callable[[Callable[[], object]], list[str]]]]:
    """A server, and what tells which files it enters while something is done."""
    work.mkdir()
    ready, log, out = work / "ready.json", work / "server.log", work / "walk.json"
    flags = ["--grpc-port", "0", "--http-port", "0", "--data-dir", str(work / "data"), "--ready-file", str(ready)]
    flags += ["--canary-interval-seconds", "3600", "--parity", "full"]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.tools.golden.walked", str(out), "serve", *flags]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
    ports = json.loads(ready.read_text())
    server = Server(process, f"127.0.0.1:{ports['grpc_port']}", f"http://127.0.0.1:{ports['http_port']}", log)

    def walked(work: Callable[[], object]) -> list[str]:
        time.sleep(_SETTLED_SECONDS)
        _written(process, out)
        work()
        time.sleep(_SETTLED_SECONDS)
        return _written(process, out)

    try:
        yield server, walked
    finally:
        stop_server(server)


def _written(process: subprocess.Popen[bytes], out: Path) -> list[str]:
    out.unlink(missing_ok=True)
    process.send_signal(signal.SIGUSR1)
    while not out.exists():
        time.sleep(0.02)
    found: list[str] = json.loads(out.read_text())
    return found


def _trained(work: Path) -> Iterator[tuple[str, list[str]]]:
    trainings.write_data(work)
    flags = trainings.flags(
        {
            **trainings.SMALL,
            "text": "text.txt",
            "output": "base",
            "work": "run",
            "save-steps": 3,
            "validation": "held_out.txt",
        }
    )
    yield "pretraining", _training(work, ["pretrain", *flags])
    (work / "run/checkpoint-6/COMPLETE").unlink()
    yield "resume", _training(work, ["pretrain", *flags, "--resume"])
    flags = trainings.flags({"data": "rows.jsonl", "name": "tale", "output": "tale", "max-steps": 3})
    yield "finetuning", _training(work, ["finetune", *flags])


def _training(work: Path, command: Sequence[str]) -> list[str]:
    out = work / "walk.json"
    arguments = [sys.executable, "-m", "tests.tools.golden.walked", str(out), *command]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        arguments, cwd=work, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    found: list[str] = json.loads(out.read_text())
    return found
