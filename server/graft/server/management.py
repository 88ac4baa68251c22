"""What can be done with adapters while they are served: move aliases, pin, delete. Running requests notice nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from graft.adapters.adapter import Adapter, AdapterVersion, Alias
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.paging import Page
from graft.adapters.catalog.rows import Record
from graft.adapters.errors import Conflict, InvalidReference, NotFound
from graft.server.engine.engine import LoadFailed
from graft.server.errors import ParityFailed
from graft.server.parity.parity import Parity
from graft.server.registry.accepted import Accepted
from graft.server.registry.intents import Intent, Intents
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.thread import CatalogThread
from graft.server.residency.policy import Resident
from graft.server.residency.slots import Slots
from graft.server.runtime.background import watched


class Management:
    """The verbs of one tenant's adapters. All may raise what the catalog does."""

    def __init__(
        self, catalog: CatalogThread, snapshots: Snapshots, slots: Slots, parity: Parity, intents: Intents
    ) -> None:
        self._catalog = catalog
        self._snapshots = snapshots
        self._slots = slots
        self._parity = parity
        self._intents = intents
        self._undoing: set[asyncio.Task[None]] = set()

    async def set_alias(
        self,
        *,
        tenant: str,
        adapter: str,
        alias: str,
        version: str,
        weight_percent: int | None,
        expected_etag: str | None,
        request_id: str | None,
    ) -> tuple[Alias, float | None, int]:
        """A hot swap: the version is in the engine before the alias moves, so its first request does not wait.

        Requests under way hold leases on the old version, which leaves when room is needed. Returns the alias, the
        seconds that loading took (None where the version was resident) and the version's number.
        Raises `IncompatibleAdapter`, `LoadFailed`, `ParityFailed`, `Conflict`, `NotFound`.
        """
        target = await self._catalog.read(lambda catalog: catalog.get_version(tenant, adapter, version))
        self._snapshots.check_servable(target)
        seconds = None
        if not self._surely_lost(tenant, adapter, alias, expected_etag):
            seconds = await self._slots.prefetch(target.digest)
        moved = await self._catalog.write(
            lambda catalog: catalog.set_alias(
                tenant=tenant,
                adapter=adapter,
                alias=alias,
                version=target.digest,
                weight_percent=weight_percent,
                expected_etag=expected_etag,
                request_id=request_id,
            )
        )
        return moved, seconds, target.number

    async def load(self, version: AdapterVersion) -> float | None:
        """Have a version in the engine before an alias moves to it; the seconds that it took, None where it was there.

        Raises `IncompatibleAdapter`, `LoadFailed`, `ParityFailed`.
        """
        self._snapshots.check_servable(version)
        return await self._slots.prefetch(version.digest)

    async def publish(self, accepted: Accepted, *, alias: str) -> tuple[Alias, float | None, int]:
        """Point an alias at a version that just came in. Where that fails nothing of it is kept, also where the caller
        goes away meanwhile: then it is undone beside.

        Raises what `set_alias` does.
        """
        version = accepted.version
        try:
            moved = await self.set_alias(
                tenant=version.tenant,
                adapter=version.adapter,
                alias=alias,
                version=version.digest,
                weight_percent=None,
                expected_etag=None,
                request_id=None,
            )
        except (ParityFailed, LoadFailed) as error:
            raise type(error)(f"{error}; {await self.withdraw(accepted)}") from error
        except BaseException:
            undoing = watched(self.withdraw(accepted), "taking back a version that no alias points at")
            self._undoing.add(undoing)
            undoing.add_done_callback(self._undoing.discard)
            raise
        await asyncio.to_thread(self._intents.end, accepted.intent)
        return moved

    async def withdraw(self, accepted: Accepted) -> str:
        """Take back what was not published, and say so. A version that was there before stays."""
        version = accepted.version
        stays = (
            f"{version.adapter}@{version.number} was registered before and stays: graft adapters delete "
            f"{version.adapter} --version {version.number}"
        )
        if not accepted.is_new:
            return stays
        return "nothing of it was kept" if await self.undo(accepted.intent) else stays

    async def undo(self, intent: Intent) -> bool:
        """Whether nothing is left of a version that was to become an alias's. One that somebody else has registered too
        stays.
        """
        before = self._known()
        is_gone = await self._catalog.write(
            lambda catalog: self._intents.take_back(intent, lambda: _taken_back(catalog, intent))
        )
        self._retire_unknown(before)
        return is_gone

    async def delete_alias(self, *, tenant: str, adapter: str, alias: str, request_id: str | None) -> None:
        await self._catalog.write(
            lambda catalog: catalog.delete_alias(tenant=tenant, adapter=adapter, alias=alias, request_id=request_id)
        )

    async def delete_version(self, *, tenant: str, adapter: str, version: str, request_id: str | None) -> None:
        """Forget a version; it leaves the engine with its last lease. Raises `Conflict` while an alias points at it."""
        before = self._known()
        await self._catalog.write(
            lambda catalog: catalog.delete_version(
                tenant=tenant, adapter=adapter, version=version, request_id=request_id
            )
        )
        self._retire_unknown(before)

    async def delete_adapter(
        self, *, tenant: str, adapter: str, force: bool = False, request_id: str | None = None
    ) -> None:
        """Forget an adapter; with `force` its aliases and versions, too, else `Conflict` while it has versions."""
        before = self._known()
        await self._catalog.write(
            lambda catalog: catalog.delete_adapter(tenant=tenant, adapter=adapter, force=force, request_id=request_id)
        )
        self._retire_unknown(before)

    async def set_pin(self, *, tenant: str, adapter: str, version: str, pinned: bool) -> Resident:
        """Keep a version in its slot, or let it go. Raises `PinRefused`, `NotFound` where there is nothing to unpin."""
        target = await self._catalog.read(lambda catalog: catalog.get_version(tenant, adapter, version))
        if pinned:
            self._snapshots.check_servable(target)
            await self._slots.pin(target.digest)
        else:
            self._slots.unpin(target.digest)
        for resident in self._slots.view():
            if resident.digest == target.digest:
                return resident
        raise NotFound(f"{adapter}@{target.number} is not in the engine")

    async def prefetch(self, *, tenant: str, adapter: str, version: str) -> bool:
        """A version may be asked for soon: it is loaded where none in use has to leave. Returns whether it is there.

        `version` may be an alias.
        Raises `IncompatibleAdapter`, `NotFound`; what goes wrong with the load is told to whoever asks for the version.
        """
        target = await self.find_version(tenant=tenant, adapter=adapter, version=version)
        self._snapshots.check_servable(target)
        self._slots.hint(target.digest)
        return self._slots.usable(target.digest)

    async def find_version(self, *, tenant: str, adapter: str, version: str) -> AdapterVersion:
        """A version by its number, its digest, or an alias that points at it. Raises `NotFound`."""
        found = self._of_alias(tenant, adapter, version)
        if found is not None:
            return found
        return await self._catalog.read(lambda catalog: catalog.get_version(tenant, adapter, version))

    async def get_version(
        self, *, tenant: str, adapter: str, version: str
    ) -> tuple[AdapterVersion, tuple[Record, ...]]:
        """A version and the records about it; the receipt of a check just made is among them."""
        await self._parity.settled()
        found = await self._catalog.read(lambda catalog: catalog.get_version(tenant, adapter, version))
        return found, await self._catalog.read(lambda catalog: catalog.records(found.digest, tenant=tenant))

    async def versions(self, *, tenant: str, adapter: str, page_size: int, page_token: str) -> Page[AdapterVersion]:
        return await self._catalog.read(
            lambda catalog: catalog.versions(tenant, adapter, page_size=page_size, page_token=page_token)
        )

    async def get_adapter(self, *, tenant: str, adapter: str) -> Adapter:
        return await self._catalog.read(lambda catalog: catalog.get_adapter(tenant, adapter))

    async def adapters(self, *, tenant: str, page_size: int, page_token: str) -> Page[Adapter]:
        return await self._catalog.read(
            lambda catalog: catalog.adapters(tenant, page_size=page_size, page_token=page_token)
        )

    def aliases_of(self, tenant: str, adapter: str) -> tuple[tuple[Alias, AdapterVersion], ...]:
        """The adapter's aliases and what they point at, from memory."""
        return self._snapshots.current.aliases_of(tenant, adapter)

    def versions_of(self, tenant: str, adapter: str) -> tuple[AdapterVersion, ...]:
        """The adapter's versions, from memory."""
        return self._snapshots.current.versions_of(tenant, adapter)

    def residency(self) -> tuple[Resident, ...]:
        return self._slots.view()

    @property
    def num_slots(self) -> int:
        return self._slots.num_slots

    def _surely_lost(self, tenant: str, adapter: str, alias: str, expected_etag: str | None) -> bool:
        """Whether a compare-and-set fails by what is known here: a load for it could evict what is in use."""
        if expected_etag is None:
            return False
        etags = (
            one.etag
            for one in self._snapshots.current.aliases
            if (one.tenant, one.adapter, one.name) == (tenant, adapter, alias)
        )
        return next(etags, "") != expected_etag

    def _of_alias(self, tenant: str, adapter: str, alias: str) -> AdapterVersion | None:
        try:
            return self._snapshots.current.resolve(f"{adapter}:{alias}", tenant=tenant).version
        except (NotFound, InvalidReference):
            return None

    def _known(self) -> frozenset[str]:
        return frozenset(version.digest for version in self._snapshots.current.versions)

    def _retire_unknown(self, before: frozenset[str]) -> None:
        # The same content under another name is the same digest, and stays.
        known, residents = self._known(), {resident.digest for resident in self._slots.view()}
        for digest in (before | residents) - known:  # one that is in no slot may be on its way, or hinted
            self._slots.retire(digest)
        self._parity.keep_only(known | residents)  # one that is still leased goes on naming its receipt


def _taken_back(catalog: Catalog, intent: Intent) -> bool:
    tenant, adapter = intent.tenant, intent.adapter
    try:
        catalog.delete_version(tenant=tenant, adapter=adapter, version=intent.digest)
    except NotFound:
        pass  # somebody else was refused with the same one
    except Conflict:
        return False  # an alias points at it
    if intent.is_new_adapter:
        with suppress(NotFound, Conflict):  # somebody has pushed another version
            catalog.delete_adapter(tenant=tenant, adapter=adapter)
    return True
