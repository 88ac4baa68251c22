"""Sums of versions, made here: their files never leave the server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from graft.adapters.adapter import AdapterVersion, Lineage, Parent, Provenance
from graft.adapters.folder.adding import Term, added, check_terms
from graft.adapters.folder.manifest import read_manifest
from graft.adapters.folder.record import TRAINED_FILE, TrainedRecord
from graft.adapters.store.store import BlobStore
from graft.server.registry.accepted import Accepted, Permissions, TakeBack
from graft.server.registry.accepting import AdapterUploads
from graft.server.registry.snapshots import Snapshots

Part = tuple[AdapterVersion, float]
"""A version and its weight."""


class Sums:
    """A version that is a sum names its parts as parents; its base is only stated where one of theirs was."""

    def __init__(self, uploads: AdapterUploads, store: BlobStore, snapshots: Snapshots) -> None:
        self._uploads = uploads
        self._store = store
        self._snapshots = snapshots

    async def add(
        self,
        *,
        tenant: str,
        adapter: str,
        parts: Sequence[Part],
        other_form: bool,
        request_id: str | None,
        take_back: TakeBack | None = None,
    ) -> Accepted:
        """Register the sum as a version of `adapter`. Raises `IncompatibleAdapter`, and what refuses an upload."""
        return await self._uploads.take(
            tenant=tenant,
            adapter=adapter,
            chunks=partial(self._files, parts),
            permissions=Permissions(noop=False, other_form=other_form),
            request_id=request_id,
            take_back=take_back,
        )

    def _files(self, parts: Sequence[Part]) -> Iterator[tuple[str, bytes]]:
        terms = [self._term(version, weight) for version, weight in parts]
        check_terms(terms)
        yield from added(terms, self._snapshots.base)
        yield TRAINED_FILE, _record(parts).encode()

    def _term(self, version: AdapterVersion, weight: float) -> Term:
        folder = self._store.materialize(version)
        known = {file.name: file.sha256 for file in version.files}
        return Term(version=version, folder=folder, manifest=read_manifest(folder, sha256=known), weight=weight)


def _record(parts: Sequence[Part]) -> str:
    versions = [version for version, _ in parts]
    parents = tuple(Parent(digest=version.digest, weight=weight) for version, weight in parts)
    declared = any(version.provenance is Provenance.DECLARED for version in versions)
    return TrainedRecord(
        base=versions[0].base,
        form=versions[0].form,
        lineage=Lineage(job=None, data_digest=None, code_version=None, seed=None, parents=parents),
        provenance=Provenance.DECLARED if declared else Provenance.TRAINED,
    ).text()
