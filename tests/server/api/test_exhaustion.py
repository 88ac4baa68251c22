"""Reading 12 and 7: what callers may take together is bounded, and one who takes long holds up nobody else."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from graft.server.engine.text import Text
from graft.server.errors import BadInput
from graft.server.runtime.violations import Violations
from graft.server.settings.settings import InvalidSetting, Settings
from graft.v1 import inference_pb2 as pb
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import until
from tests.server.api.scripted.engine import ScriptedTokenizer


async def test_bodies_of_requests_under_way_share_a_budget(start_server: StartServer) -> None:
    server = await start_server(max_body_mib=1, max_bodies_mib=1)
    small = json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 2}).encode()
    large = small + b" " * 700_000

    async def ask(body: bytes) -> httpx.Response:
        return await server.http.post("/v1/completions", content=body)

    server.script.hang = True
    asked = [asyncio.create_task(ask(large))]
    await until(lambda: len(server.script.active) == 1)
    refused = await ask(large)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "server_overloaded")
    assert refused.headers["retry-after"] == "1"
    asked.append(asyncio.create_task(ask(small)))
    await until(lambda: len(server.script.active) == 2)
    for one in asked:
        one.cancel()
    await until(lambda: not server.script.active)
    server.script.hang = False
    assert (await ask(large)).status_code == 200


def test_the_budget_holds_one_body_at_least() -> None:
    with pytest.raises(InvalidSetting, match="max_bodies_mib is 3, less than one body may have"):
        Settings(max_bodies_mib=3)


async def test_a_connection_too_many_is_told_and_closed(start_server: StartServer) -> None:
    server = await start_server(max_connections=3)
    held = [await asyncio.open_connection("127.0.0.1", server.http_port) for _ in range(3)]
    await until(lambda: True)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ") and json.loads(body)["error"]["code"] == "server_overloaded"
    writer.close()
    held[0][1].write(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert (await asyncio.wait_for(held[0][0].read(), 10)).startswith(b"HTTP/1.1 200 ")

    async def answered() -> bool:
        return (await server.http.get("/livez")).status_code == 200

    async with asyncio.timeout(10):
        while not await answered():
            await asyncio.sleep(0.01)
    for _, one in held:
        one.close()


class Watched(ScriptedTokenizer):
    """Remembers where it ran."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def encode(self, text: str) -> list[int]:
        self.threads.add(threading.current_thread().name)
        return super().encode(text)


async def test_continuations_are_tokenized_beside_the_loop() -> None:
    tokenizer = Watched()
    text = Text(tokenizer, vocab_size=40, max_model_tokens=100_000)
    found = await text.continuations("x", [ord("x") % 40], ["y" * 1000] * 256, field="continuations")
    assert found == [[ord("y") % 40] * 1000] * 256
    assert tokenizer.threads and threading.main_thread().name not in tokenizer.threads
    with pytest.raises(BadInput, match=r"continuations\[1\]"):
        await text.continuations("x", [1], ["y", "z" * 10_000_000], field="continuations")


class Endless(Sequence[int]):
    """Ids that must not be looked at."""

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("looked at")

    def __iter__(self) -> Iterator[int]:
        raise AssertionError("looked at")


def test_more_ids_than_fit_are_refused_unseen() -> None:
    text = Text(ScriptedTokenizer(), vocab_size=40, max_model_tokens=1000)
    violations = Violations()
    text.check_ids(Endless(), field="prompt.token_ids.ids", violations=violations)
    with pytest.raises(BadInput, match="has 1000000 tokens; the context holds 1000"):
        violations.raise_any()


async def test_files_that_take_long_do_not_hold_up_texts(server: Server) -> None:
    """The event loop's own threads, which uploads use, are all taken."""
    go = threading.Event()
    taken = [asyncio.create_task(asyncio.to_thread(go.wait, 30)) for _ in range(64)]
    try:
        prompt = pb.Prompt(text="y" * 5000)
        reply = await server.inference.Tokenize(pb.TokenizeRequest(prompt=prompt), timeout=20)
        assert len(reply.token_ids) == 5000
    finally:
        go.set()
        await asyncio.gather(*taken)


async def test_a_slow_import_does_not_hold_up_another(server: Server) -> None:
    go = threading.Event()
    slow = asyncio.create_task(server.running.catalog.write_long(lambda catalog: go.wait(30)))
    assert (await server.imported("joe", seed=1)).number == 1
    assert not slow.done()
    go.set()
    await slow
