"""torchrun's agent is killed, as by the kernel where memory is short: its ranks end, too, and free their GPUs.

What a training does then, see ``test_signals.py``.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.running import assert_gone
from tests.training.launch.test_launchers import TORCHRUN


def test_ranks_end_with_a_killed_agent(tmp_path: Path) -> None:
    left = [tmp_path / f"waits-{rank}" for rank in range(2)]
    with subprocess.Popen([*TORCHRUN, "-m", "tests.training.launch.waiting", str(tmp_path)]) as agent:
        deadline = time.monotonic() + 120
        while not all(one.exists() and one.read_text() for one in left):
            assert agent.poll() is None and time.monotonic() < deadline, "the processes did not meet"
            time.sleep(0.02)
        agent.kill()
    assert_gone([int(one.read_text()) for one in left])
