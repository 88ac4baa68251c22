"""The catalog behind one thread, and the picture of it that requests read. Serving never waits for the database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from graft.adapters.accepting import OTHER_FORM_RECORD
from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog, Record
from graft.adapters.catalog.snapshot import CatalogSnapshot
from graft.adapters.errors import IncompatibleAdapter, NotFound, Reason
from graft.adapters.form import ServingForm

# Imports and uploads at once: one that is slow must not hold up the others.
_NUM_LONG = 4
T = TypeVar("T")


class Registry:
    """Reads and writes run one after another in one thread; `snapshot` is replaced after each write."""

    def __init__(self, catalog: Catalog, *, base: Base, form: ServingForm) -> None:
        """Use `Registry.open`. Blocks on the database."""
        self._catalog = catalog
        self._base = base
        self._form = form
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="graft-catalog")
        self._long_threads = ThreadPoolExecutor(max_workers=_NUM_LONG, thread_name_prefix="graft-uploads")
        self._refreshing = threading.Lock()
        self._other_form_allowed: frozenset[tuple[str, str]] = frozenset()
        self.snapshot = CatalogSnapshot(base_name=base.name)

    @classmethod
    async def open(cls, catalog: Catalog, *, base: Base, form: ServingForm) -> Registry:
        """Register the base and take the first picture. Raises what the catalog does."""
        registry = cls(catalog, base=base, form=form)
        await registry.write(lambda one: one.register_base(base))
        return registry

    async def read(self, call: Callable[[Catalog], T]) -> T:
        """`call` in the catalog's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, self._catalog)

    async def write(self, call: Callable[[Catalog], T]) -> T:
        """`call` in the catalog's thread, then a new picture; a caller that goes away leaves neither half done."""

        def work() -> T:
            result = call(self._catalog)
            self._refresh()
            return result

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def write_long(self, call: Callable[[Catalog], T]) -> T:
        """Like `write`, for calls that mostly read files: beside the catalog's thread, so that aliases still move."""

        def work() -> T:
            result = call(self._catalog)
            self._refresh()
            return result

        return await asyncio.get_running_loop().run_in_executor(self._long_threads, work)

    def version_of(self, digest: str) -> AdapterVersion:
        """Any tenant's version with this digest: all have the same files. Raises `NotFound`."""
        for version in self.snapshot.versions:
            if version.digest == digest:
                return version
        raise NotFound(f"no version has the digest {digest}")

    def name_of(self, digest: str) -> str:
        """What people call the version: `<adapter>@<number>`; its digest where it is gone."""
        found = (one for one in self.snapshot.versions if one.digest == digest)
        return next((f"{one.adapter}@{one.number}" for one in found), digest)

    async def records_of(self, digest: str) -> tuple[Record, ...]:
        """All tenants' records about the version, oldest first within each tenant."""
        tenants = self._tenants_of(digest)
        return await self.read(lambda one: tuple(r for tenant in tenants for r in one.records(digest, tenant=tenant)))

    async def add_record(self, digest: str, kind: str, body: Mapping[str, object]) -> None:
        """Append a record for every tenant that has the version. It changes nothing that requests resolve."""
        for tenant in self._tenants_of(digest):
            await self.read(partial(_add_record, tenant=tenant, digest=digest, kind=kind, body=body))

    def _tenants_of(self, digest: str) -> list[str]:
        return sorted({version.tenant for version in self.snapshot.versions if version.digest == digest})

    def check_servable(self, version: AdapterVersion) -> None:
        """Raises `IncompatibleAdapter` where the version belongs to another base or an other form was not allowed."""
        reasons = []
        other = version.base.differences(self._base.identity)
        if other:
            problem = (
                f"was made for {version.base.name} ({version.base.digest}); served is {self._base.name} "
                f"({self._base.digest}), which differs in {', '.join(other).replace('_', ' ')}"
            )
            reasons.append(
                Reason(field="base", problem=problem, remedy=f"serve that base, or train on {self._base.name}")
            )
        if version.form != self._form and (version.tenant, version.digest) not in self._other_form_allowed:
            problem = f"was trained on {version.form}; the base is held as {self._form}"
            remedy = f"serve with --quantization {version.form}, or register it with allow_other_quantization"
            reasons.append(Reason(field="form", problem=problem, remedy=remedy))
        if reasons:
            raise IncompatibleAdapter(f"{version.adapter}@{version.number} does not fit the served base", reasons)

    async def close(self) -> None:
        """Finish what is under way and close the catalog."""
        await asyncio.to_thread(self._long_threads.shutdown)
        await self.read(lambda catalog: catalog.close())
        self._thread.shutdown()

    def _refresh(self) -> None:
        # Locked as a whole, or an older snapshot could replace a newer one.
        with self._refreshing:
            before = self.snapshot
            snapshot = self._catalog.refreshed(before)
            if snapshot is not before:
                self._other_form_allowed = self._allowed_in(snapshot, before)
                self.snapshot = snapshot

    def _allowed_in(self, snapshot: CatalogSnapshot, before: CatalogSnapshot) -> frozenset[tuple[str, str]]:
        """The versions (tenant, digest) that may be served on another form; asked of adapters that changed only."""
        allowed: set[tuple[str, str]] = set()
        for name, entry in snapshot.entries.items():
            other = {(one.tenant, one.digest) for one in entry.versions.values() if one.form != self._form}
            is_same = entry is before.entries.get(name)
            allowed |= other & self._other_form_allowed if is_same else set(filter(self._is_allowed, other))
        return frozenset(allowed)

    def _is_allowed(self, version: tuple[str, str]) -> bool:
        tenant, digest = version
        return any(record.kind == OTHER_FORM_RECORD for record in self._catalog.records(digest, tenant=tenant))


def _add_record(catalog: Catalog, *, tenant: str, digest: str, kind: str, body: Mapping[str, object]) -> None:
    catalog.add_record(digest, kind, body, tenant=tenant)
