"""Prefetching and pinning by the command line: what an operator sees, and where it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from graft.cli.main import main
from graft.client import Client
from tests.running import Server
from tests.server.engine.making import write_adapter


def test_prefetch_and_pin(
    server: Server,
    client: Client,
    layers: dict[str, tuple[int, int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the server's four slots three can be pinned; the fourth is left for all others."""

    def graft(*words: str) -> int:
        return main(["adapters", words[0], "--server", server.grpc, *words[1:]])

    digests = []
    for number in range(4):
        folder = write_adapter(tmp_path / str(number), layers, rank=8, seed=100 + number)
        digests.append(client.push_adapter(folder, name=f"pin{number}").version.digest)

    assert graft("prefetch", "pin0", "1", "--output", "json") == 0
    end = time.monotonic() + 60
    while not json.loads(capsys.readouterr().out)["resident"]:
        assert time.monotonic() < end, "a prefetched version never came"
        assert graft("prefetch", "pin0", "1", "--output", "json") == 0
    assert graft("prefetch", "pin0", "1") == 0
    assert capsys.readouterr().out == "pin0@1 is ready\n"

    for number in range(3):
        assert graft("pin", f"pin{number}", "1") == 0
    assert capsys.readouterr().out.splitlines() == [f"pin{number}@1 is pinned" for number in range(3)]
    assert graft("pin", "pin3", "1") != 0
    assert "3" in capsys.readouterr().err
    client.generate("a", model="pin3@1", max_tokens=1)  # the slot that stays free for all
    held = {each.digest for each in client.residency().versions if each.pinned}
    assert held == set(digests[:3])

    for number in range(3):
        assert graft("pin", f"pin{number}", "1", "--off") == 0
    assert not any(each.pinned for each in client.residency().versions)
    assert graft("prefetch", "pin0", "7") == 2
    assert "pin0" in capsys.readouterr().err
