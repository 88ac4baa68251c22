"""How the engine's processes wait for each other's messages.

vLLM polls its shared-memory queue and yields the core in between, for a second after each message: under load its
front occupies a core with waiting, and whatever else is to run there (this server, a training) comes up short. Beside
16 streams a fine-tuning took twice as long as with a poll every tenth of a millisecond, and the streams themselves
were slower.
"""

from __future__ import annotations

import time

_SECONDS_BETWEEN_POLLS = 1e-4


def sleep_between_polls() -> None:
    """Let this process sleep where vLLM's queue would yield. May run several times in a process."""
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.sched_yield = _sleep


def _sleep() -> None:
    time.sleep(_SECONDS_BETWEEN_POLLS)
