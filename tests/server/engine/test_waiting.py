"""The engine's processes sleep while they wait for each other."""

from __future__ import annotations

import subprocess
import sys


def test_a_reader_of_vllms_queue_sleeps_between_polls() -> None:
    """In a process of its own: the plugin changes vLLM for the whole process."""
    script = """
import os, sys, time
import zmq
from graft.server.engine.lora_cpu import plugin
plugin.register()
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
reader = SpinCondition(is_reader=True, context=zmq.Context(), notify_address="inproc://none", busy_loop_s=60)
polls, end = 0, time.monotonic() + 0.5
while time.monotonic() < end:
    reader.wait()
    polls += 1
print(polls)
sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    polls = int(done.stdout.split()[-1])
    # A yield takes a microsecond or less: there would be hundreds of thousands.
    assert 0 < polls <= 5000
