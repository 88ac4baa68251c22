"""Who has nothing to write stays until the first process has written: a launcher may end what is left when some go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.training.launch.test_launchers import TORCHRUN, run, write_text


def test_ctrl_c_waits_for_nothing_that_is_being_made() -> None:
    """Python itself waits, when it ends, for what executors have begun."""
    code = """
import sys, threading, torch.distributed as dist
from graft.training.launch import processes
def interrupted(*_, **__): raise KeyboardInterrupt
dist.get_rank, dist.broadcast_object_list, processes._AGAIN_SECONDS = lambda: 0, interrupted, 0.01
try: processes.Processes(num=2, device="cpu").by_first(threading.Event().wait)
except KeyboardInterrupt: sys.exit(130)
"""
    found = subprocess.run([sys.executable, "-c", code], timeout=120, check=False, stderr=subprocess.DEVNULL)
    # As the command ends. Without it Python ends by the signal only where no library runs code of its own at the end.
    assert found.returncode == 130


def test_all_end_with_what_ended_the_first(tmp_path: Path) -> None:
    run([*TORCHRUN, "-m", "tests.training.launch.ending", str(tmp_path), str(write_text(tmp_path))])
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in range(2)] == ["the disk of process 0 is full"] * 2
