"""A version's check without waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from graft.server.parity import parity as parity_module
from tests.server.parity.bench import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(parity_module, "_WRITE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(parity_module, "_RETRY_SECONDS", 0.0)
    return Bench(tmp_path)
