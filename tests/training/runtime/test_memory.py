"""Freed memory that is kept, seen by the pages that the system has to clear."""

import subprocess
import sys

FAULTS = """
import resource, sys
import torch
from graft.training.runtime.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(3):
    [torch.ones(4 << 20) for _ in range(8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    [torch.ones(4 << 20) for _ in range(8)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    # Left to itself glibc moves the threshold, sometimes up to what these tensors take.
    environment = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10), "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True, env=environment
    )
    return int(done.stdout)


def test_pages_are_cleared_once() -> None:
    """Five times eight tensors of 16 MB: 163,840 pages of four kilobytes where none is used again."""
    assert faults("keep") < 10_000
    assert faults("leave") > 100_000
