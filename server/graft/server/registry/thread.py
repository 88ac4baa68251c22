"""The catalog behind one thread: serving never waits for the database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from graft.adapters.catalog.catalog import Catalog

# Imports and uploads at once: one that is slow must not hold up the others.
_NUM_LONG = 4
T = TypeVar("T")


class CatalogThread:
    """Reads and writes run one after another in one thread."""

    def __init__(self, catalog: Catalog, *, written: Callable[[Catalog], None]) -> None:
        """`written` is told after each write, in the thread that wrote and before the writer hears of it."""
        self._catalog = catalog
        self._written = written
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="graft-catalog")
        self._long_threads = ThreadPoolExecutor(max_workers=_NUM_LONG, thread_name_prefix="graft-uploads")

    async def read(self, call: Callable[[Catalog], T]) -> T:
        """`call` in the catalog's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, self._catalog)

    async def write(self, call: Callable[[Catalog], T]) -> T:
        """`call` in the catalog's thread, then `written`; a caller that goes away leaves neither half done."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._write, call)

    async def run(self, call: Callable[[], T]) -> T:
        """`call` in the catalog's thread: what another room does with the same database."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def write_long(self, call: Callable[[Catalog], T]) -> T:
        """Like `write`, for calls that mostly read files: beside the catalog's thread, so that aliases still move."""
        return await asyncio.get_running_loop().run_in_executor(self._long_threads, self._write, call)

    async def close(self) -> None:
        """Finish what is under way and close the catalog."""
        await asyncio.to_thread(self._long_threads.shutdown)
        await self.read(lambda catalog: catalog.close())
        self._thread.shutdown()

    def _write(self, call: Callable[[Catalog], T]) -> T:
        result = call(self._catalog)
        self._written(self._catalog)
        return result
