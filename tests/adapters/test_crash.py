"""Killed anywhere in registering, promoting and deleting (F3): acknowledged is kept, and what is there is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("mode", ["failpoints", "moments"])
def test_killed(mode: str, repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.adapters.crashing", mode, str(tmp_path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
