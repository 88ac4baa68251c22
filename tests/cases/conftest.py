"""One fork server for the session; a folder for each case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cases.harness.command import Commands
from tests.cases.harness.forkserver import ForkServer


@pytest.fixture(scope="session")
def forkserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path_factory.mktemp("said"))
    yield server
    server.close()


@pytest.fixture
def commands(forkserver: ForkServer, tmp_path: Path) -> Commands:
    """Commands run below this test's own folder."""
    return Commands(forkserver, tmp_path)
