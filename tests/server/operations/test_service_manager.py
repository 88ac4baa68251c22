"""What systemd hears, as sd_notify(3) has it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from graft.server.operations import service_manager


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_manager_hears_that_the_server_is_ready(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@{short_folder.name}" if abstract else str(short_folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        service_manager.tell(service_manager.READY)
        assert manager.recv(64) == b"READY=1"


@pytest.mark.parametrize("name", ["", "vsock:2:1234", "/nowhere/notify"])
def test_without_a_manager_that_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    service_manager.tell(service_manager.READY)
