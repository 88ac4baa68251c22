"""Who has nothing to write stays until the first process has written: a launcher may end what is left when some go."""

from __future__ import annotations

from pathlib import Path

from tests.training.launch.test_launchers import TORCHRUN, run, write_text


def test_all_end_with_what_ended_the_first(tmp_path: Path) -> None:
    run([*TORCHRUN, "-m", "tests.training.launch.ending", str(tmp_path), str(write_text(tmp_path))])
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in range(2)] == ["the disk of process 0 is full"] * 2
