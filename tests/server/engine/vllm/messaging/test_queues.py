"""An engine's queues in shared memory: they fit into a container's default, and who waits at one sleeps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

from graft.server.engine.vllm.messaging import queues as vllm_queues

_DOCKER_BYTES = 64 * 2**20


def _in_an_engine_process(script: str) -> str:
    """What it prints in a process of its own: the plugin changes vLLM for the whole process."""
    head = "import os, sys\nfrom graft.server.engine.vllm.inside import plugin\nplugin.register()\nplugin.register()\n"
    script = f"{head}{script}\nsys.stdout.flush()\nos._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()[-1]


def test_a_reader_of_vllms_queue_sleeps_between_polls() -> None:
    polls = _in_an_engine_process("""
import time, zmq
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
reader = SpinCondition(is_reader=True, context=zmq.Context(), notify_address="inproc://none", busy_loop_s=60)
polls, end = 0, time.monotonic() + 0.5
while time.monotonic() < end:
    reader.wait()
    polls += 1
print(polls)""")
    # A yield takes a microsecond or less: there would be hundreds of thousands.
    assert 0 < int(polls) <= 5000


def test_queues_fit_into_a_containers_shared_memory_and_pass_what_is_larger_than_a_chunk() -> None:
    script = """
import random, threading
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
writer = MessageQueue(1, 1, max_chunk_bytes=16 * 2**20)
sent = [random.Random(0).randbytes(n) for n in (10, 3 * 2**20, 2**20, 20 * 2**20)] * 3
read = []
def receive():
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    reader.wait_until_ready()
    for _ in sent:
        read.append(reader.dequeue(timeout=60))
receiver = threading.Thread(target=receive)
receiver.start()
writer.wait_until_ready()
for message in sent:
    writer.enqueue(message, timeout=60)
receiver.join()
assert read == sent
print(writer.buffer.total_bytes_of_buffer)"""
    assert 2 * int(_in_an_engine_process(script)) <= vllm_queues.needed_bytes(1) < _DOCKER_BYTES


def test_queues_are_as_short_on_a_gpus_engine() -> None:
    """A container's 64 MiB would end the first worker that writes beyond them: vLLM asks for 160, and 240 a worker."""
    script = """
import importlib
from vllm import platforms
class Cuda(type(platforms.current_platform)):
    def is_cpu(self):
        return False
platforms.current_platform = Cuda()
from vllm.distributed.device_communicators import shm_broadcast
importlib.reload(shm_broadcast)
plugin.register()
print(shm_broadcast.MessageQueue(1, 1, max_chunk_bytes=16 * 2**20).buffer.total_bytes_of_buffer)"""
    assert int(_in_an_engine_process(script)) <= vllm_queues.needed_bytes(1) // 2


@pytest.mark.parametrize(
    ("free_mib", "num_workers", "says"),
    [
        (64, 1, ""),
        (1, 1, "has 1 MiB free, and an engine needs 41"),
        (64, 8, "64 MiB free, and an engine needs 181: make it larger (mount -o remount,size=1g"),
    ],
)
def test_a_lack_of_shared_memory_is_said_before_a_process_starts(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, num_workers: int, says: str
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 0, free_mib * 2**20))
    problem = vllm_queues.lack_of_room(num_workers)
    assert says in problem
    assert bool(problem) == bool(says)
