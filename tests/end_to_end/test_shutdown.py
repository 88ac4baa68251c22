"""SIGTERM under load: admitted streams end whole, new work is refused, nothing is left behind."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from graft.client import Client, GraftClientError, Unavailable
from tests.running import assert_gone, children_of, shared_names, start_server, stop_server
from tests.server.engine.making import write_adapter


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_drains_then_exits(folder: Path) -> None:
    server = start_server(folder, "--quantization", "bf16", "--drain-seconds", "60")
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


def test_a_killed_server_takes_its_engine_with_it_and_the_next_one_has_its_adapters(
    folder: Path, short_folder: Path, layers: dict[str, tuple[int, int]]
) -> None:
    first = start_server(folder, "--quantization", "bf16", environment={"TMPDIR": str(short_folder)})
    children = children_of(first.process.pid)
    names = shared_names([first.process.pid, *children])
    with Client(first.grpc) as client:
        client.push_adapter(write_adapter(folder / "adapter", layers, rank=8, seed=5), name="kept", alias="stable")
        before = client.generate("a -> ", model="kept", max_tokens=12)
    first.process.kill()
    first.process.wait(timeout=30)
    assert len(children) >= 2
    assert_gone(children)
    assert names and not any(Path("/dev/shm", name).exists() for name in names)

    (folder / "ready.json").unlink()
    second = start_server(folder, "--quantization", "bf16", environment={"TMPDIR": str(short_folder)})
    with Client(second.grpc) as client:
        after = client.generate("a -> ", model="kept", max_tokens=12)
    assert (after.text, after.answerer) == (before.text, before.answerer)
    assert stop_server(second) == 0
    left = [path for path in short_folder.rglob("*") if not path.is_dir()]
    assert not [path for path in left if "torchinductor" not in str(path)], "neither of the two left a file"
