"""A catalog of jobs for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server.jobs.keeping import KeptJobs


@pytest.fixture
def kept() -> Iterator[KeptJobs]:
    kept = KeptJobs()
    yield kept
    kept.database.close()
