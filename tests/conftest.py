"""Fixtures that every room's tests share: real data, and one real server for the whole session."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from graft.adapters.base.base import Base, shipped_bases
from graft.client import Client
from tests.running import BASE, STARTED, Server, end_started, start_server, stop_server
from tests.server.engine.making import write_adapter

ROOT = Path(__file__).parents[1]
SERVERS = tuple(
    f"tests/{room}/"
    for room in ("cases", "deploy", "end_to_end", "proto", "server", "training/distill", "training/tour")
)
"""Where tests ask the session's servers."""

# A property holds however busy the machine is, and is asked about the same examples in every run; other ones are looked
# for by `pytest --hypothesis-profile seek`.
settings.register_profile("any machine", deadline=None, derandomize=True)
settings.register_profile("seek", deadline=None, max_examples=1000)
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """A script's background processes ignore SIGINT, and so would the processes that tests send it to."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of several processes (``pytest -n 2``) one has all tests of servers, which share engines. A file's tests stay
    together, whose fixtures they share.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByServers(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return "servers" if nodeid.startswith(SERVERS) else nodeid.split("::")[0]

    return ByServers(config, log)


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """A test that fails ends the servers that it began: fixtures of a wider scope were there before."""
    before = len(STARTED)
    yield
    end_started(STARTED[before:])


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that is run here sends our log to the stderr of its test, which is closed behind it."""
    log = logging.getLogger("graft")
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_path() -> Callable[[str], Path]:
    """Finds real data below $GRAFT_TEST_DATA (by default ../shared/data beside the repository).

    `data_path("sst2/dev.tsv")` skips the test, with the reason, where the file is missing.
    """
    folder = Path(os.environ.get("GRAFT_TEST_DATA") or ROOT / ".." / "shared" / "data").resolve()

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no test data: {path} does not exist; set GRAFT_TEST_DATA to the folder that holds {name}")
        return path

    return find


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`graft serve` on the shipped base in NF4, with four slots."""
    running = start_server(tmp_path_factory.mktemp("server"), "--num-slots", "4")
    yield running
    assert stop_server(running) == 0


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[Client]:
    with Client(server.grpc) as client:
        yield client


@pytest.fixture(scope="session")
def base() -> Base:
    return Base.from_folder(shipped_bases()[BASE])


@pytest.fixture(scope="session")
def layers(base: Base) -> dict[str, tuple[int, int]]:
    """The base's linear modules with their shapes."""
    return {name: shape for name, shape in base.modules.items() if ".layers." in name}


@pytest.fixture(scope="session")
def two_versions(client: Client, layers: dict[str, tuple[int, int]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter with versions 1 and 2 that say different things; `stable` is version 1."""
    root = tmp_path_factory.mktemp("versions")
    for number in (1, 2):
        folder = write_adapter(root / str(number), layers, rank=8 * number, seed=number)
        pushed = client.push_adapter(folder, name="fable", alias="stable" if number == 1 else None)
        assert pushed.version.number == number
    return "fable"


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """For temporary files: the names of sockets are short."""
    with tempfile.TemporaryDirectory(prefix="cold-") as name:
        yield Path(name)
