"""A server on a base of a model hub: it is fetched before readiness, and the next start needs no network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graft.adapters.base.base import find_base
from graft.client import Client
from tests.adapters.base.local_hub import Repository, environment, running
from tests.running import start_server, stop_server

pytestmark = pytest.mark.slow


def test_the_base_is_fetched_once_and_served_again_without_the_hub(tmp_path: Path) -> None:
    with running() as hub:
        hub.repositories["oaks/oak"] = Repository()
        commit = hub.repositories["oaks/oak"].commit(find_base("rootstock-5m"))
        variables = environment(hub, tmp_path / "hub")
        server = start_server(tmp_path, "--base", "oaks/oak", environment=variables)
        with Client(server.grpc) as client:
            assert client.info().base.name == "oaks/oak"
        num_asked = len(hub.asked)
        assert stop_server(server) == 0
        assert len(hub.asked) == num_asked, "nothing is asked of the hub once the server is ready"
    log = server.log.read_text()
    assert f"oaks/oak is taken at commit {commit}" in log and "is fetched from the model hub" in log
    again = start_server(tmp_path, "--base", "oaks/oak", environment=variables)
    with Client(again.grpc) as client:
        assert client.generate("12+39?").text
    assert stop_server(again) == 0


def test_a_download_is_ended_by_the_signal_that_ends_the_server(tmp_path: Path) -> None:
    with running() as hub:
        hub.repositories["oaks/oak"] = Repository()
        hub.repositories["oaks/oak"].commit(find_base("rootstock-5m"))
        hub.holds = "model.safetensors"
        command = [sys.executable, "-m", "graft.cli.main", "serve", "--base", "oaks/oak", "--grpc-port", "0"]
        command += ["--http-port", "0", "--data-dir", str(tmp_path / "data"), "--drain-seconds", "60"]
        with subprocess.Popen(command, env={**os.environ, **environment(hub, tmp_path / "hub")}) as server:
            assert hub.held.wait(120)
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
