"""The catalog of programs: the transactions over versions and labels. Synchronous and safe for threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from graft.adapters.catalog.database import Database
from graft.server.prompting.catalog import labels, reads, versions
from graft.server.prompting.catalog.draft import Draft
from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.catalog.snapshot import PromptSnapshot


def _utc_now() -> datetime:
    return datetime.now(UTC)


class PromptCatalog:
    """On the catalog's database, opened with `tables.MIGRATIONS`. Every method may raise what the catalog's do."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._database = database
        self._now = now

    def register(self, draft: Draft, *, request_id: str | None = None) -> PromptVersion:
        """Keep a version and point its labels at it; the same content again is the version that is there."""
        return self._database.write(versions.register, draft, request_id=request_id, now=self._now())

    def set_label(
        self,
        *,
        tenant: str,
        prompt: str,
        label: str,
        version: str | None,
        expected_etag: str | None = None,
        request_id: str | None = None,
    ) -> PromptLabel:
        """Point a label at a version (number, digest or label; None is `production`) by compare-and-set.

        `expected_etag`: None sets it whatever it is now, "" only if it does not exist yet, else only if it still has
        this etag. Raises Conflict naming the current etag, NotFound, InvalidReference.
        """
        wish = labels.Wish(tenant=tenant, prompt=prompt, label=label, version=version, expected_etag=expected_etag)
        return self._database.write(labels.set_label, wish, request_id=request_id, now=self._now())

    def delete_label(self, *, tenant: str, prompt: str, label: str, request_id: str | None = None) -> None:
        """Delete a label; its version stays. Raises NotFound."""
        self._database.write(labels.delete_label, tenant, prompt, label, request_id=request_id, now=self._now())

    def delete_version(self, *, tenant: str, prompt: str, version: str, request_id: str | None = None) -> None:
        """Delete a version. Raises NotFound; Conflict naming the labels that point at it."""
        self._database.write(versions.delete_version, tenant, prompt, version, request_id=request_id, now=self._now())

    def delete_prompt(self, *, tenant: str, prompt: str, force: bool = False, request_id: str | None = None) -> None:
        """Delete a program's versions and labels. Raises NotFound; Conflict unless `force` is said."""
        self._database.write(versions.delete_prompt, tenant, prompt, force, request_id=request_id, now=self._now())

    def refreshed(self, before: PromptSnapshot) -> PromptSnapshot:
        """`before` itself where nothing changed since, in this process or another; else what changed is read anew."""
        return self._database.read(reads.refreshed, before)
