"""Where the fronts listen, under which names, and what they do not count."""

from __future__ import annotations

import logging
import socket
from urllib.parse import unquote

import grpc.aio
import httpx
import pytest

from graft.server.api.addresses import listeners, reached, shown
from graft.server.api.http.openai import header_text
from graft.v1 import server_pb2, server_pb2_grpc
from tests.server.api.conftest import Server, StartServer


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return socket.has_dualstack_ipv6()


async def version_over_grpc(address: str) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = server_pb2_grpc.ServerServiceStub(channel)
        return (await stub.GetInfo(server_pb2.GetInfoRequest(), timeout=10)).version


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::", "0.0.0.0", "[::]"])
async def test_s24_both_fronts_answer_both_families(start_server: StartServer, host: str) -> None:
    server = await start_server(host=host)
    for address in ("127.0.0.1", "[::1]"):
        assert (await server.http.get(f"http://{address}:{server.http_port}/livez")).status_code == 200
        assert await version_over_grpc(f"{address}:{server.grpc_port}")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_s24_one_ipv6_address(start_server: StartServer) -> None:
    server = await start_server(host="::1")
    assert (await server.http.get(f"http://[::1]:{server.http_port}/livez")).status_code == 200
    assert await version_over_grpc(f"[::1]:{server.grpc_port}")


@pytest.mark.parametrize(
    ("host", "address"), [("::", "[::]:5"), ("[::1]", "[::1]:5"), ("127.0.0.1", "127.0.0.1:5"), ("box", "box:5")]
)
def test_s24_addresses_are_shown_as_clients_take_them(host: str, address: str) -> None:
    assert shown(host, 5) == address
    assert httpx.URL(f"http://{shown(host, 5)}/v1").port == 5


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("", "localhost"),
        ("0.0.0.0", "localhost"),
        ("[::]", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]"),
        ("[fd00::5]", "[fd00::5]"),
        ("gpu1", "gpu1"),
    ],
)
def test_by_which_name_this_machine_reaches_what_listens(host: str, name: str) -> None:
    assert reached(host) == name


def test_a_name_is_listened_on_with_one_port() -> None:
    sockets = listeners("localhost", 0)
    assert len({one.getsockname()[1] for one in sockets}) == 1
    with pytest.raises(OSError, match=r"cannot listen on localhost:\d+: Address already in use"):
        listeners("localhost", sockets[0].getsockname()[1])
    for one in sockets:
        one.close()


@pytest.mark.parametrize("name", ["模型-5m", "a b%c", "naïve", "x\ny"])
async def test_s23_a_base_of_any_name_answers(start_server: StartServer, name: str) -> None:
    server = await start_server(base_name=name)
    for stream in (False, True):
        body = {"model": "base", "prompt": "x", "max_tokens": 2, "stream": stream}
        reply = await server.http.post("/v1/completions", json=body)
        assert reply.status_code == 200, reply.text
        assert unquote(reply.headers["x-graft-adapter"]) == name


def test_s23_visible_ascii_stays_as_it_is() -> None:
    assert header_text("ft:base@3 (x)/y_z~") == "ft:base@3 (x)/y_z~"


async def test_c10_probes_and_scrapes_are_no_requests(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="graft.access")
    for path in ("/metrics", "/livez", "/readyz"):
        assert (await server.http.get(path)).status_code == 200
    assert not caplog.records
    outcomes = ("ok", "cancelled", "not_found", "invalid_argument")
    assert sum(server.metric("graft_requests_total", front="http", outcome=one) for one in outcomes) == 0
    await server.http.get("/v1/models")
    assert server.metric("graft_requests_total", front="http", outcome="ok") == 1
    assert [record.message.split()[:3] for record in caplog.records] == [["http", "GET", "/v1/models"]]


async def test_c11_whatever_base_is_served_is_listed_as_base_too(server: Server) -> None:
    listed = [model.id async for model in server.openai.models.list()]
    assert listed[:2] == ["tiny", "base"]
    for name in listed:
        assert (await server.openai.completions.create(model=name, prompt="x", max_tokens=1)).model == name
