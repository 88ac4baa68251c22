"""Blocks that are split or sharded, compiled, and computed again on the way back give what one process finds (gloo)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.parallel.runs import COMPILED, alone, losses
from tests.training.parallel.starting import assert_is_the_reference, run


@pytest.mark.slow
def test_it_is_the_same_as_what_one_process_does_as_it_is_written(tmp_path: Path) -> None:
    expected = alone("llama", tmp_path)
    run(tmp_path, list(COMPILED), 2)
    for name in COMPILED:
        assert_is_the_reference(tmp_path / name, losses(tmp_path), expected)
