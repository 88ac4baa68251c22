"""SIGTERM under load: admitted streams end whole, new work is refused, nothing is left behind."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from graft.client import Client, GraftClientError, Unavailable
from tests.end_to_end.conftest import assert_gone, children_of, start_server


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
