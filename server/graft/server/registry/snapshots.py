"""The picture of the catalog that requests read, and which of its versions this server can serve."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from graft.adapters.accepting import OTHER_FORM_RECORD
from graft.adapters.adapter import AdapterVersion
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.fine_tuned import FineTuned
from graft.adapters.catalog.snapshot import CatalogSnapshot
from graft.adapters.errors import IncompatibleAdapter, NotFound, Reason
from graft.adapters.form import ServingForm


class Snapshots:
    """`current` is replaced after each write, and read in any thread; `base` is served, held in `form`."""

    def __init__(self, base: Base, form: ServingForm) -> None:
        self.base = base
        self.form = form
        self._refreshing = threading.Lock()
        self._other_form_allowed: frozenset[tuple[str, str]] = frozenset()
        self._soft_prompts: set[str] = set()
        self.current = CatalogSnapshot(base_name=base.name)

    def refresh(self, catalog: Catalog) -> None:
        """Take what changed since. Blocks on the database."""
        # Locked as a whole, or an older snapshot could replace a newer one.
        with self._refreshing:
            before = self.current
            snapshot = catalog.refreshed(before)
            if snapshot is not before:
                self._other_form_allowed = self._allowed_in(snapshot, before, catalog)
                self._soft_prompts |= _soft_prompts_in(snapshot, before)
                self.current = snapshot

    def know_fine_tuned(self, made: Mapping[tuple[str, str], FineTuned]) -> None:
        """Take what jobs have made."""
        with self._refreshing:
            self.current = replace(self.current, fine_tuned=MappingProxyType(dict(made)))

    def is_soft_prompt(self, digest: str) -> bool:
        """Whether a version that is known, or was, is one: a deleted one may still be leased."""
        return digest in self._soft_prompts

    def version_of(self, digest: str) -> AdapterVersion:
        """Any tenant's version with this digest: all have the same files. Raises `NotFound`."""
        for version in self.current.versions:
            if version.digest == digest:
                return version
        raise NotFound(f"no version has the digest {digest}")

    def name_of(self, digest: str) -> str:
        """What people call the version: `<adapter>@<number>`; its digest where it is gone, or several tenants'."""
        found = [one for one in self.current.versions if one.digest == digest]
        if len({one.tenant for one in found}) != 1:
            return digest
        return f"{found[0].adapter}@{found[0].number}"

    def check_servable(self, version: AdapterVersion) -> None:
        """Raises `IncompatibleAdapter` where the version belongs to another base or an other form was not allowed."""
        if version.num_virtual_tokens:
            self._soft_prompts.add(version.digest)  # it may come from the catalog ahead of the picture
        reasons = []
        other = version.base.differences(self.base.identity)
        if other:
            problem = (
                f"was made for {version.base.name} ({version.base.digest}); served is {self.base.name} "
                f"({self.base.digest}), which differs in {', '.join(other).replace('_', ' ')}"
            )
            reasons.append(
                Reason(field="base", problem=problem, remedy=f"serve that base, or train on {self.base.name}")
            )
        if version.form != self.form and (version.tenant, version.digest) not in self._other_form_allowed:
            problem = f"was trained on {version.form}; the base is held as {self.form}"
            remedy = f"serve with --quantization {version.form}, or register it with allow_other_quantization"
            reasons.append(Reason(field="form", problem=problem, remedy=remedy))
        if reasons:
            raise IncompatibleAdapter(f"{version.adapter}@{version.number} does not fit the served base", reasons)

    def _allowed_in(
        self, snapshot: CatalogSnapshot, before: CatalogSnapshot, catalog: Catalog
    ) -> frozenset[tuple[str, str]]:
        """The versions (tenant, digest) that may be served on another form; asked of adapters that changed only."""
        allowed: set[tuple[str, str]] = set()
        for name, entry in snapshot.entries.items():
            other = {(one.tenant, one.digest) for one in entry.versions.values() if one.form != self.form}
            if entry is before.entries.get(name):
                allowed |= other & self._other_form_allowed
            else:
                allowed |= {(tenant, digest) for tenant, digest in other if _is_allowed(catalog, tenant, digest)}
        return frozenset(allowed)


def _soft_prompts_in(snapshot: CatalogSnapshot, before: CatalogSnapshot) -> set[str]:
    """Digests, of the adapters that changed."""
    changed = (entry for name, entry in snapshot.entries.items() if entry is not before.entries.get(name))
    return {one.digest for entry in changed for one in entry.versions.values() if one.num_virtual_tokens}


def _is_allowed(catalog: Catalog, tenant: str, digest: str) -> bool:
    return any(record.kind == OTHER_FORM_RECORD for record in catalog.records(digest, tenant=tenant))
