"""Files that no version has any more are deleted from time to time, and when somebody asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Set

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.errors import GraftError
from graft.adapters.store.store import BlobStore, Collected
from graft.server.registry.thread import CatalogThread

_log = logging.getLogger(__name__)
_FIRST_SECONDS = 60.0
_INTERVAL_SECONDS = 3600.0


class Collection:
    """Safe beside uploads and other replicas: what is young stays, and what is stored again meanwhile is kept."""

    def __init__(
        self,
        catalog: CatalogThread,
        store: BlobStore,
        *,
        in_use: Callable[[], Set[str]],
        kept: Callable[[], Set[str]] = frozenset,
    ) -> None:
        """`in_use` gives the digests of versions that the engine holds, even of those that were deleted.

        `kept`, asked in the catalog's thread, gives the SHA-256 of what other rooms keep in the store.
        """
        self._catalog, self._store, self._in_use, self._kept = catalog, store, in_use, kept
        self._turn = asyncio.Lock()

    async def enrol(self) -> None:
        """Say to the store whose files these are, before the first of them is old enough to be collected.

        Raises what the store does.
        """
        identity = await self._catalog.read(lambda catalog: catalog.identity())
        await asyncio.to_thread(self._store.enrol, identity)

    async def collect(self) -> Collected:
        """Delete what is dead and older than an hour. Raises `Conflict` in a shared store, `StoreUnavailable`."""
        async with self._turn:
            await self.enrol()
            live = await self._catalog.read(self._live) | self._in_use()
            return await asyncio.to_thread(self._store.collect, live)

    def _live(self, catalog: Catalog) -> frozenset[str]:
        return catalog.live_digests() | self._kept()

    async def run(self) -> None:
        """Enrol now, then collect every hour until cancelled. What fails is logged, and tried again the next time."""
        await self._attempt(self.enrol)
        pause_seconds = _FIRST_SECONDS
        while True:
            await asyncio.sleep(pause_seconds)
            await self._attempt(self._collect_and_say)
            pause_seconds = _INTERVAL_SECONDS

    async def _collect_and_say(self) -> None:
        done = await self.collect()
        if done.num_deleted:
            _log.info("collected %d files of deleted versions, %d bytes", done.num_deleted, done.freed_bytes)

    async def _attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (GraftError, OSError) as error:
            _log.warning("files of deleted versions are not collected for now: %s", error)
        except Exception:
            _log.exception("files of deleted versions are not collected for now")
