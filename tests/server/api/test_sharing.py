"""Callers who share the engine: what each was served counts, at both front doors, and nobody keeps a slot for ever."""

from __future__ import annotations

import asyncio

import pytest

from graft.server.admission.fairness import Client
from graft.server.admission.policy import Admission
from tests.server.api.conftest import Server, StartServer
from tests.server.api.grpc.test_grpc import generate_request


def served(server: Server, adapter: str) -> float:
    """What the adapter's counter says, as it stands when one more of its requests waits."""
    admission: Admission = server.running.serving._queue._admission
    client = Client(tenant="default", adapter=adapter)
    admission._fairness.waits(client)
    try:
        return admission._fairness.order(client)[2]
    finally:
        admission._fairness.gives_up(client)


async def adapters(server: Server, *names: str) -> None:
    for seed, name in enumerate(names):
        await server.imported(name, seed=seed)
        await server.point(name, "stable", "1")


async def test_each_token_counts_at_both_front_doors(server: Server) -> None:
    await adapters(server, "joe")
    before = served(server, "joe")
    async for _ in server.inference.Generate(generate_request("joe", max_tokens=7, num_choices=2)):
        pass
    expected = server.metric("graft_tokens_total", kind="prompt") + 2 * 14
    assert served(server, "joe") - before == expected
    await server.openai.completions.create(model="joe", prompt="x", max_tokens=5)
    expected += 1 + 2 * 5
    assert served(server, "joe") - before == expected
    async for _ in await server.openai.completions.create(model="joe", prompt="x", max_tokens=4, stream=True):
        pass
    expected += 1 + 2 * 4
    assert served(server, "joe") - before == expected


async def test_a_stream_counts_while_it_runs(server: Server) -> None:
    server.script.token_seconds = 0.01
    await adapters(server, "joe")
    stream = aiter(server.inference.Generate(generate_request("joe", max_tokens=20)))
    await anext(stream)
    early = served(server, "joe")
    for _ in range(10):
        await anext(stream)
    assert served(server, "joe") - early >= 2 * 9
    async for _ in stream:
        pass


async def test_overlapping_streams_on_all_slots_do_not_shut_a_third_adapter_out(start_server: StartServer) -> None:
    server = await start_server(num_slots=2)
    server.script.token_seconds = 0.002
    await adapters(server, "joe", "jim", "ann")

    async def ask(name: str) -> None:
        async for _ in server.inference.Generate(generate_request(name, max_tokens=40)):
            pass

    async def ask_again_and_again(name: str, number: int) -> None:
        await asyncio.sleep(0.01 * number)
        while True:
            await ask(name)

    names = ("joe", "jim") * 5
    flood = [asyncio.create_task(ask_again_and_again(name, number)) for number, name in enumerate(names)]
    await asyncio.sleep(0.2)
    await asyncio.wait_for(ask("ann"), 60)
    for caller in flood:
        caller.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert server.metric("graft_queue_wait_seconds_count") > len(names)


async def test_who_waits_for_a_slot_holds_no_running_place(start_server: StartServer) -> None:
    server = await start_server(num_slots=1, max_running=2)
    server.script.token_seconds = 0.01
    await adapters(server, "joe", "jim")
    joe = aiter(server.inference.Generate(generate_request("joe", max_tokens=60)))
    await anext(joe)
    jim = asyncio.create_task(anext(aiter(server.inference.Generate(generate_request("jim", max_tokens=1)))))
    await asyncio.sleep(0.05)
    assert server.metric("graft_running_requests") == 1 and server.metric("graft_queued_requests") == 1
    async for _ in server.inference.Generate(generate_request(max_tokens=2)):
        pass
    assert not jim.done()
    assert len([one async for one in joe]) == 59
    assert (await asyncio.wait_for(jim, 5)).answerer.adapter == "jim"


@pytest.mark.parametrize("num_slots", [1, 2])
async def test_a_swap_under_load_waits_no_longer_than_the_requests_that_run(
    start_server: StartServer, num_slots: int
) -> None:
    """Streams for v1 overlap without a gap; before hand-overs, with one slot v2 would have waited for ever."""
    server = await start_server(num_slots=num_slots)
    server.script.token_seconds = 0.002
    await adapters(server, "joe")
    await server.imported("joe", seed=9)

    async def ask_again_and_again() -> None:
        while True:
            async for _ in server.inference.Generate(generate_request("joe@1", max_tokens=40)):
                pass

    flood = [asyncio.create_task(ask_again_and_again()) for _ in range(6)]
    await asyncio.sleep(0.1)
    moved = await asyncio.wait_for(server.point("joe", "stable", "2"), 10)
    assert moved.alias.version_number == 2
    for caller in flood:
        caller.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
