"""Two processes that have met and wait for ever: run by torchrun with a folder as argument, which gets their ids."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch.distributed as dist

from graft.training.launch.processes import joined

if __name__ == "__main__":
    with joined():
        (Path(sys.argv[1]) / f"waits-{dist.get_rank()}").write_text(str(os.getpid()))
        signal.pause()
