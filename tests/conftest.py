"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def data_path() -> Callable[[str], Path]:
    """Finds real data below $GRAFT_TEST_DATA (by default ../shared/data beside the repository).

    `data_path("sst2/dev.tsv")` skips the test, with the reason, where the file is missing.
    """
    folder = Path(os.environ.get("GRAFT_TEST_DATA") or ROOT / ".." / "shared" / "data").resolve()

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no test data: {path} does not exist; set GRAFT_TEST_DATA to the folder that holds {name}")
        return path

    return find
