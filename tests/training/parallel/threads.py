"""Several ranks as threads of one process: what they exchange is what processes would, without their start."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.testing._internal.distributed.multi_threaded_pg import (
    _install_threaded_pg,
    _uninstall_threaded_pg,
)


def in_threads(num: int, work: Callable[[int], Any]) -> list[Any]:
    """What each rank returns. The first error of one is raised."""
    found: list[Any] = [None] * num
    errors: list[BaseException] = []
    store = dist.HashStore()

    def run(rank: int) -> None:
        try:
            dist.init_process_group("threaded", rank=rank, world_size=num, store=store)
            found[rank] = work(rank)
        except BaseException as error:
            errors.append(error)  # who waits for it waits in vain, and ends with the tests

    torch._C._distributed_c10d._set_thread_isolation_mode(True)
    _install_threaded_pg()
    try:
        threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(num)]
        for one in threads:
            one.start()
        for one in threads:
            while one.is_alive() and not errors:
                one.join(timeout=0.1)
        for one in threads:
            one.join(timeout=2)  # after an error: who still begins would join the tests' own world
    finally:
        _uninstall_threaded_pg()
        torch._C._distributed_c10d._set_thread_isolation_mode(False)
    if errors:
        raise errors[0]
    return found
