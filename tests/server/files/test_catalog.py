"""Files in the database: who sees them, in which order, how long, and who needs them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import VERSION_TABLE, Database
from graft.adapters.errors import Conflict, NotFound
from graft.server.errors import BadInput, NoSuchResource, QuotaExceeded
from graft.server.files import holds
from graft.server.files.catalog import FileCatalog
from graft.server.files.draft import FileDraft, read_draft
from graft.server.files.file import File, Purpose
from graft.server.files.reads import Listing
from graft.server.files.tables import MIGRATIONS, metadata

LIMIT = 1_000


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 28, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


class Kept:
    """A catalog of files on a database of its own."""

    def __init__(self, url: str = "sqlite://") -> None:
        self.database = Database.open(url, migrations=[MIGRATIONS])
        self.clock = Clock()
        self.catalog = FileCatalog(self.database, max_bytes=LIMIT, now=self.clock)

    def add(self, name: str = "a.jsonl", *, tenant: str = "default", size: int = 1, **others: Any) -> File:
        draft = FileDraft(
            purpose=others.pop("purpose", Purpose.FINE_TUNE), filename=name, lifetime=others.pop("lifetime", None)
        )
        return self.catalog.add(draft, tenant=tenant, size_bytes=size, sha256=f"{size:064x}", **others)

    def ids(self, tenant: str = "default", **listing: Any) -> list[str]:
        return [one.id for one in self.catalog.listed(tenant, Listing(**{"limit": 100, **listing}))[0]]


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.database.close()


@given(st.integers(0, 7), st.integers(1, 4), st.booleans(), st.sets(st.integers(0, 6)))
def test_pages_hold_each_file_once_also_where_files_go_meanwhile(
    num: int, limit: int, newest_first: bool, gone: set[int]
) -> None:
    """The one behind which a page goes on may be deleted before the next is asked for."""
    kept = Kept()
    made = [kept.add().id for _ in range(num)]
    seen: list[str] = []
    after: str | None = None
    more = True
    while more:
        found, more = kept.catalog.listed("default", Listing(limit=limit, after=after, newest_first=newest_first))
        seen += [one.id for one in found]
        for one in found:
            if made.index(one.id) in gone:
                kept.catalog.delete("default", one.id)
        after = seen[-1] if seen else None
    assert seen == (made[::-1] if newest_first else made)
    kept.database.close()


def test_lists_are_of_one_purpose(kept: Kept) -> None:
    kept.add(purpose=Purpose.BATCH)
    wanted = kept.add(purpose=Purpose.EVALS).id
    assert kept.ids(purpose=Purpose.EVALS) == [wanted]


def test_a_cursor_that_is_no_id_is_refused(kept: Kept) -> None:
    with pytest.raises(BadInput, match="after: 'x' is no id of a file"):
        kept.ids(after="x")


def test_tenants_see_their_own_only(kept: Kept) -> None:
    Catalog(kept.database).register_tenant("acme")
    theirs = kept.add(tenant="acme", request_id="r").id
    assert kept.ids() == [] and kept.ids("acme") == [theirs]
    for call in (kept.catalog.get, kept.catalog.delete):
        with pytest.raises(NoSuchResource) as caught:
            call("default", theirs)
        assert "acme" not in str(caught.value)
    # Another tenant's request id and file are no news either.
    assert kept.add(request_id="r", size=3).id != theirs
    with pytest.raises(NotFound, match="no tenant 'nobody'"):
        kept.add(tenant="nobody")


def test_a_file_that_is_needed_neither_goes_nor_expires(kept: Kept) -> None:
    file = kept.add(lifetime=timedelta(hours=1)).id
    kept.database.write(holds.hold, "default", file, "job 1")
    kept.clock.time += timedelta(days=1)
    with pytest.raises(Conflict, match="job 1 uses it; wait until it has ended, or cancel it"):
        kept.catalog.delete("default", file)
    assert kept.catalog.forget_expired() == 0 and kept.ids() == [file] and kept.catalog.live_digests()
    kept.database.write(holds.release, "job 1")
    assert kept.ids() == [] and kept.catalog.live_digests(), "it is gone before its row is"
    with pytest.raises(NoSuchResource):
        kept.catalog.get("default", file)
    assert kept.catalog.forget_expired() == 1 and not kept.catalog.live_digests()


def test_a_file_of_another_tenant_cannot_be_held(kept: Kept) -> None:
    Catalog(kept.database).register_tenant("acme")
    file = kept.add().id
    with pytest.raises(Conflict):
        kept.database.write(holds.hold, "acme", file, "job 1")


def test_a_file_lives_until_its_time_is_over(kept: Kept) -> None:
    file = kept.add(lifetime=timedelta(hours=1))
    assert file.expire_time == kept.clock.time + timedelta(hours=1)
    for seconds, there in ((3599, [file.id]), (1, [])):
        kept.clock.time += timedelta(seconds=seconds)
        assert kept.ids() == there


def test_a_tenant_keeps_so_much(kept: Kept) -> None:
    first = kept.add(size=LIMIT - 1).id
    kept.add(size=1)
    with pytest.raises(QuotaExceeded, match=f"take {LIMIT} bytes and this would add 1: the limit is {LIMIT}"):
        kept.add(size=1)
    kept.catalog.delete("default", first)
    kept.add(size=LIMIT - 1)


def test_a_repeated_request_is_answered_again_and_not_done_again(kept: Kept) -> None:
    first = kept.add(request_id="r1")
    assert kept.add(request_id="r1") == first and kept.ids() == [first.id]
    with pytest.raises(Conflict, match="used for another call"):
        kept.add("b.jsonl", request_id="r1")
    for _ in range(2):
        kept.catalog.delete("default", first.id, request_id="r2")
    with pytest.raises(NoSuchResource):
        kept.add(request_id="r1")


def test_a_draft_is_refused_with_everything_that_is_wrong_with_it() -> None:
    with pytest.raises(BadInput) as caught:
        read_draft(purpose="fine-tune-results", filename="a\nb", expires_after_seconds=3599)
    assert [one.field for one in caught.value.violations] == ["purpose", "filename", "expires_after.seconds"]
    for purpose, name, seconds in (("", "a", None), ("batch", "", None), ("batch", "x" * 256, None), ("batch", "a", 0)):
        with pytest.raises(BadInput):
            read_draft(purpose=purpose, filename=name, expires_after_seconds=seconds)
    for limit in (3_600, 2_592_000):
        assert read_draft(purpose="evals", filename="ä.jsonl", expires_after_seconds=limit).lifetime == timedelta(
            seconds=limit
        )


def test_migrations_build_exactly_the_tables(tmp_path: Path) -> None:
    Catalog.open(f"sqlite:///{tmp_path}/c.db").close()
    Kept(f"sqlite:///{tmp_path}/c.db").database.close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/c.db")
    with engine.connect() as connection:
        ours = set(metadata.tables)
        options = {
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, _: kind != "table" or name in ours,
        }
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            built = {tuple(key["constrained_columns"]) for key in inspector.get_foreign_keys(table.name)}
            assert built == {tuple(key.column_keys) for key in table.foreign_key_constraints}
    engine.dispose()
