"""vLLM's queues in shared memory, between an engine's processes: how large they are, and how one waits at them."""

from __future__ import annotations

import shutil
import time
from typing import Any

FOLDER = "/dev/shm"
# vLLM asks for 160 MiB, and for 240 a worker, and a container has 64 by default: what is larger than a chunk goes
# through a socket.
_CHUNK_BYTES, _CHUNKS = 2 * 2**20, 10

_SECONDS_BETWEEN_POLLS = 1e-4


def needed_bytes(num_workers: int) -> int:
    """For the queues of an engine with so many worker processes: one to all of them, and one from each."""
    return (1 + num_workers) * _CHUNKS * (_CHUNK_BYTES + 4096)


def lack_of_room(num_workers: int) -> str:
    """What to say where the queues of an engine find no room, or the empty string."""
    try:
        free_bytes = shutil.disk_usage(FOLDER).free
    except OSError as error:
        return f"{FOLDER} cannot be used ({error.strerror}), and the engine's processes meet there: mount a tmpfs"
    needed = needed_bytes(num_workers)
    if free_bytes >= needed:
        return ""
    # The GPUs' communication puts something beside the queues.
    size = "256m" if num_workers == 1 else "1g"
    return (
        f"{FOLDER} has {free_bytes >> 20} MiB free, and an engine needs {-(-needed >> 20)}: make it larger "
        f"(mount -o remount,size={size} {FOLDER}; in a container: docker run --shm-size={size})"
    )


def shorten() -> None:
    """Let the queues that this process makes keep to `needed_bytes`. May run several times in a process."""
    from vllm.distributed.device_communicators import shm_broadcast

    class ShortRing(shm_broadcast.ShmRingBuffer):
        def __init__(self, n_reader: int, max_chunk_bytes: int, *more: Any) -> None:
            super().__init__(n_reader, min(max_chunk_bytes, _CHUNK_BYTES), *more)

    shm_broadcast.ShmRingBuffer = ShortRing


def sleep_between_polls() -> None:
    """Let this process sleep where vLLM's queue would yield. May run several times in a process.

    vLLM polls and yields the core in between, for a second after each message: under load its front occupies a core
    with waiting, and whatever else is to run there (this server, a training) comes up short. Beside 16 streams a
    fine-tuning took twice as long as with a poll every tenth of a millisecond, and the streams themselves were slower.
    """
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = _sleep


def _sleep() -> None:
    time.sleep(_SECONDS_BETWEEN_POLLS)
