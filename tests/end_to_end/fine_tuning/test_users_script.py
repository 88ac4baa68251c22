"""Unmodified code of a user of OpenAI's, on the real engine and with a real worker: jobs of all three methods."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.versions_of_openai import METHODS, each_version, told_by
from tests.running import BASE, Server, end_started

pytestmark = pytest.mark.slow
EPOCHS = {"supervised": 30, "dpo": 30, "reinforcement": 6}


@pytest.fixture
def worker_log(server: Server, tmp_path: Path) -> Iterator[Path]:
    """Of `graft worker`, while it works."""
    log = tmp_path / "worker.log"
    command = ["worker", "--server", server.grpc, "--folder", str(tmp_path / "worker")]
    with log.open("wb") as output:
        worker = subprocess.Popen([sys.executable, "-m", "graft.cli.main", *command], stdout=output, stderr=output)
    yield log
    assert worker.poll() is None, log.read_text()
    end_started([worker])
    assert worker.returncode == 0, log.read_text()


@each_version
async def test_jobs_of_all_methods_end_in_models(server: Server, worker_log: Path, tmp_path: Path, python: str) -> None:
    told = await told_by(python, server.http, tmp_path, model=BASE, epochs=EPOCHS)
    print(told)
