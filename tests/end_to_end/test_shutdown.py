"""SIGKILL, and SIGTERM under load: admitted streams end whole, new work is refused, nothing is left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from graft.client import Client, Generation, GraftClientError, Unavailable
from tests.running import Server, assert_gone, children_of, shared_names, start_server, stop_server
from tests.server.engine.making import write_adapter


@dataclass(frozen=True, kw_only=True)
class Successor:
    """A server on the data of one that SIGKILL ended, after both answered with the same adapter."""

    num_children: int
    before: Generation
    after: Generation
    server: Server


@pytest.fixture(scope="module")
def successor(
    short_folder: Path, layers: dict[str, tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Successor]:
    folder = tmp_path_factory.mktemp("killed")
    flags, environment = ("--quantization", "bf16", "--drain-seconds", "60"), {"TMPDIR": str(short_folder)}
    first = start_server(folder, *flags, environment=environment)
    children = children_of(first.process.pid)
    names = shared_names([first.process.pid, *children])
    with Client(first.grpc) as client:
        client.push_adapter(write_adapter(folder / "adapter", layers, rank=8, seed=5), name="kept", alias="stable")
        before = client.generate("a -> ", model="kept", max_tokens=12)
    first.process.kill()
    first.process.wait(timeout=30)
    assert_gone(children)
    assert names and not any(Path("/dev/shm", name).exists() for name in names)
    (folder / "ready.json").unlink()
    second = start_server(folder, *flags, environment=environment)
    with Client(second.grpc) as client:
        after = client.generate("a -> ", model="kept", max_tokens=12)
    yield Successor(num_children=len(children), before=before, after=after, server=second)
    if second.process.poll() is None:
        stop_server(second)


def test_a_killed_server_takes_its_engine_with_it_and_the_next_one_has_its_adapters(successor: Successor) -> None:
    assert successor.num_children >= 2
    assert (successor.after.text, successor.after.answerer) == (successor.before.text, successor.before.answerer)


def test_drains_then_exits(successor: Successor, short_folder: Path) -> None:
    server = successor.server
    lengths, errors, started = [], [], threading.Barrier(5, timeout=60)

    def stream(client: Client) -> None:
        chunks = client.stream("a", max_tokens=300, ignore_eos=True)
        count = len(next(chunks).token_ids)
        started.wait()
        try:
            lengths.append(count + sum(len(chunk.token_ids) for chunk in chunks))
        except GraftClientError as error:
            errors.append(error)

    children = children_of(server.process.pid)
    names = shared_names([server.process.pid, *children])
    assert [name.endswith(".lock") for name in names] == [True], "C12: no other name once the engine runs"
    with Client(server.grpc) as client:
        threads = [threading.Thread(target=stream, args=(client,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(Unavailable):
            while True:
                client.generate("a", max_tokens=1)
        for thread in threads:
            thread.join()
    assert errors == []
    assert lengths == [300] * 4
    assert server.process.wait(timeout=90) == 0
    assert_gone(children)
    assert not any(Path("/dev/shm", name).exists() for name in names)
    log = server.log.read_text(errors="replace")
    assert not [word for word in ("leaked", "Traceback", "EngineDeadError") if word in log], log[-4000:]
    left = [path for path in short_folder.rglob("*") if not path.is_dir()]
    assert not [path for path in left if "torchinductor" not in str(path)], "neither of the two servers left a file"
