"""A replica that moves an alias against another one (F14), in a module that a new process can import."""

from __future__ import annotations

from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.errors import Conflict


def race(url: str, barrier: Barrier, rounds: int, won: SimpleQueue[int]) -> None:
    """Each round: read the etag, meet the other, move the alias; put the numbers of the rounds that were won."""
    catalog = Catalog.open(url)
    names = {"tenant": "default", "adapter": "joe"}
    for number in range(rounds):
        etag = next(catalog.snapshot().aliases).etag
        barrier.wait(60)
        try:
            catalog.set_alias(**names, alias="stable", version="1", expected_etag=etag)
            won.put(number)
        except Conflict:
            continue
        finally:
            barrier.wait(60)
    catalog.close()
