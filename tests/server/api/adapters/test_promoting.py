"""A push with an alias is all or nothing, whoever goes away in the middle of it: its caller, or the server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graft.client import Client, GraftClientError
from graft.server.registry.intents import Intent
from graft.v1 import adapter_pb2 as pb
from tests.adapters.making import make_adapter, make_base
from tests.server.api.adapters.test_adapters import answered_by, upload_parts
from tests.server.api.adapters.test_publishing import names, push
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import until

LONG_SECONDS = 1000.0


def left(server: Server) -> list[Path]:
    """What of uploads lies on the disk; versions that are there have their files elsewhere."""
    folders = [server.settings.data_path / name for name in ("staging", "intents")]
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


async def test_a_stream_that_breaks_off_leaves_nothing(server: Server) -> None:
    parts = list(upload_parts(make_adapter(server.folder / "a", base=server.base), "joe", alias="stable"))
    sent = asyncio.Event()

    async def half() -> AsyncIterator[pb.UploadVersionRequest]:
        for part in parts[: len(parts) // 2]:
            yield part
        sent.set()
        await asyncio.Event().wait()

    call = server.adapters.UploadVersion(half())
    await sent.wait()
    await until(lambda: bool(left(server)))
    call.cancel()
    await until(lambda: not left(server))
    assert await names(server) == []


async def test_files_in_memory_whose_bytes_are_others_leave_nothing(server: Server) -> None:
    folder = make_adapter(server.folder / "a", base=server.base)
    weights = bytearray((folder / "adapter_model.safetensors").read_bytes())
    files = {path.name: path.read_bytes() for path in folder.iterdir()} | {"adapter_model.safetensors": weights}
    with Client(f"127.0.0.1:{server.grpc_port}") as client:
        sending = client._upload

        def damaged(*arguments: object) -> object:
            weights[-1] ^= 1  # behind the header's hash: what the client must not be used for
            return sending(*arguments)  # type: ignore[arg-type]

        client._upload = damaged  # type: ignore[method-assign, assignment]
        with pytest.raises(GraftClientError, match=r"its bytes hash to [0-9a-f]{64}, declared was"):
            await asyncio.to_thread(client.push_adapter, files, name="joe", alias="stable")
        assert (await names(server), left(server)) == ([], [])
        client._upload = sending  # type: ignore[method-assign]
        pushed = await asyncio.to_thread(client.push_adapter, files, name="joe", alias="stable")
    assert (await answered_by(server, "joe")).version_digest == pushed.version.digest


@pytest.mark.parametrize("was_there", [False, True])
async def test_a_caller_who_goes_before_the_alias_moves_leaves_nothing(server: Server, was_there: bool) -> None:
    before = [("joe", 1)] if was_there else []
    if was_there:
        await push(server, make_adapter(server.folder / "a", base=server.base, seed=1))
    server.script.load_seconds = LONG_SECONDS
    call = asyncio.ensure_future(push(server, make_adapter(server.folder / "b", base=server.base, seed=2)))
    while await names(server) == before:
        await asyncio.sleep(0)
    call.cancel()
    while await names(server) != before:
        await asyncio.sleep(0)
    await until(lambda: not left(server))
    server.script.load_seconds = 0.0
    if was_there:
        assert (await answered_by(server, "joe")).version_number == 1


async def test_a_version_that_somebody_registered_meanwhile_stays(server: Server) -> None:
    folder = make_adapter(server.folder / "a", base=server.base)
    server.script.load_seconds = LONG_SECONDS
    call = asyncio.ensure_future(push(server, folder))
    while not await names(server):
        await asyncio.sleep(0)
    assert left(server)
    version = (await server.adapters.UploadVersion(upload_parts(folder, "joe"))).version
    assert left(server) == [], "the next server would take back what this one acknowledged"
    call.cancel()
    await asyncio.wait([call])
    intent = Intent(tenant="default", adapter="joe", digest=version.digest, is_new_adapter=True)
    assert not await server.running.management.undo(intent)
    assert await names(server) == [("joe", 1)], "it was acknowledged to somebody else"


@contextmanager
def killed(folder: Path, fault: str) -> Iterator[Client]:
    """A server process on `folder`'s data, which is killed when the block ends."""
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "tests.server.api.scripted.process"]
    child = subprocess.Popen(
        [*command, str(folder / "bases" / "tiny"), str(folder / "data"), str(ready), "5", fault],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert child.poll() is None and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)
        with Client(f"127.0.0.1:{json.loads(ready.read_text())['grpc_port']}") as client:
            yield client
    finally:
        child.kill()
        child.wait()


async def test_a_server_that_is_killed_before_the_alias_moves_leaves_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "bases" / "tiny")
    one, two = (make_adapter(tmp_path / str(seed), base=base, seed=seed) for seed in (1, 2))
    with killed(tmp_path, "loads-for-ever") as client:
        client.push_adapter(one, name="kept")

        def push_two(name: str) -> None:
            with pytest.raises(GraftClientError):
                client.push_adapter(two, name=name, alias="stable")

        pushing = [asyncio.create_task(asyncio.to_thread(push_two, name)) for name in ("kept", "new")]
        while {(one.adapter, one.num_versions) for one in client.adapters()} != {("kept", 2), ("new", 1)}:
            await asyncio.sleep(0)
    await asyncio.gather(*pushing)
    server = await start_server()
    assert (await names(server), left(server)) == ([("kept", 1)], [])
    assert (await server.adapters.UploadVersion(upload_parts(two, "new", alias="stable"))).alias.version_number == 1
