"""Names, versions and aliases in transactions (F4, F14)."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import VERSION_TABLE, Database, alembic_config
from graft.adapters.catalog.tables import metadata
from graft.adapters.errors import CatalogCorrupt, CatalogUnavailable, Conflict, InvalidReference, NotFound
from tests.adapters.catalog.racing import race
from tests.adapters.making import register

JOE = {"tenant": "default", "adapter": "joe"}


def test_numbers_count_per_adapter_and_are_never_given_twice(catalog: Catalog) -> None:
    assert [register(catalog, content).number for content in "abc"] == [1, 2, 3]
    assert register(catalog, "a", adapter="jane").number == 1
    catalog.delete_version(**JOE, version="3")
    assert register(catalog, "d").number == 4
    assert register(catalog, "b").number == 2


def test_a_version_comes_back_as_registered(catalog: Catalog) -> None:
    made = register(catalog, "a", job="j")
    for selector in ("1", made.digest, made.digest[7:20]):
        assert catalog.get_version("default", "joe", selector) == made
    with pytest.raises(NotFound, match="there is no version 2"):
        catalog.get_version("default", "joe", "2")
    with pytest.raises(NotFound, match=f"{2**70} is no version's number"):
        catalog.get_version("default", "joe", str(2**70))
    with pytest.raises(NotFound, match="no adapter 'jane'"):
        catalog.get_version("default", "jane", "1")


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/sub/catalog.db"
    first = Catalog.open(url)
    made = register(first, "a")
    alias = first.set_alias(**JOE, alias="stable", version="1")
    first.close()
    second = Catalog.open(url)
    assert second.versions("default", "joe").items == (made,)
    assert second.snapshot().aliases_of("default", "joe") == ((alias, made),)
    assert second.snapshot("tiny").resolve("joe").version == made
    second.close()


def test_bases_are_registered_by_digest(catalog: Catalog, base: Base) -> None:
    catalog.register_base(base)
    catalog.register_base(base)
    (record,) = catalog.bases()
    assert (record.identity, record.path) == (base.identity, base.path) and base.name == "tiny"
    with pytest.raises(InvalidReference, match="is the name of a base"):
        register(catalog, "a", adapter="tiny")


def test_an_alias_moves_by_compare_and_set(catalog: Catalog) -> None:
    first, second = register(catalog, "a"), register(catalog, "b")
    made = catalog.set_alias(**JOE, alias="stable", version="1", expected_etag="")
    assert made.version_digest == first.digest
    with pytest.raises(Conflict, match=made.etag):
        catalog.set_alias(**JOE, alias="stable", version="2", expected_etag="")
    with pytest.raises(Conflict, match=made.etag):
        catalog.set_alias(**JOE, alias="stable", version="2", expected_etag="stale")
    with pytest.raises(Conflict, match="does not exist"):
        catalog.set_alias(**JOE, alias="canary", version="2", expected_etag="stale")
    moved = catalog.set_alias(**JOE, alias="stable", version="2", expected_etag=made.etag)
    assert moved.version_digest == second.digest
    assert moved.etag != made.etag
    back = catalog.set_alias(**JOE, alias="stable", version="1")
    # The same version again, but an etag that was given before is never right again.
    assert len({made.etag, moved.etag, back.etag}) == 3
    with pytest.raises(NotFound):
        catalog.set_alias(**JOE, alias="stable", version="7")
    with pytest.raises(InvalidReference):
        catalog.set_alias(**JOE, alias="../x", version="1")


def test_weights_stay_are_bounded_and_sum_to_100_at_most(catalog: Catalog) -> None:
    register(catalog, "a")
    assert catalog.set_alias(**JOE, alias="canary", version="1", weight_percent=60).weight_percent == 60
    assert catalog.set_alias(**JOE, alias="canary", version="1").weight_percent == 60
    for alias, weight in (("beta", 41), ("canary", 101), ("canary", -1), ("stable", 5)):
        with pytest.raises(InvalidReference, match="weight"):
            catalog.set_alias(**JOE, alias=alias, version="1", weight_percent=weight)
    assert [alias.name for alias in catalog.snapshot().aliases] == ["canary"]


def test_what_is_referenced_cannot_be_deleted(catalog: Catalog) -> None:
    register(catalog, "a")
    alias = catalog.set_alias(**JOE, alias="canary", version="1")
    with pytest.raises(Conflict, match="joe:canary points at it"):
        catalog.delete_version(**JOE, version="1")
    with pytest.raises(Conflict, match="has 1 version;"):
        catalog.delete_adapter(**JOE)
    with pytest.raises(Conflict, match=alias.etag):
        catalog.delete_alias(**JOE, alias="canary", expected_etag="stale")
    catalog.delete_alias(**JOE, alias="canary", expected_etag=alias.etag)
    with pytest.raises(NotFound):
        catalog.delete_alias(**JOE, alias="canary")
    catalog.delete_version(**JOE, version="1")
    catalog.delete_adapter(**JOE)
    with pytest.raises(NotFound):
        catalog.get_adapter("default", "joe")


def test_force_deletes_an_adapter_whole(catalog: Catalog) -> None:
    register(catalog, "a")
    catalog.set_alias(**JOE, alias="stable", version="1")
    catalog.delete_adapter(**JOE, force=True)
    assert catalog.adapters().items == ()
    assert catalog.live_digests() == frozenset()


def test_tenants_do_not_see_each_other(catalog: Catalog) -> None:
    register(catalog, "a")
    catalog.register_tenant("acme")
    catalog.register_tenant("acme")
    assert catalog.adapters("acme").items == ()
    with pytest.raises(NotFound):
        catalog.versions("acme", "joe")
    theirs = register(catalog, "a", tenant="acme")
    assert (theirs.number, theirs.tenant) == (1, "acme")
    catalog.delete_adapter(tenant="acme", adapter="joe", force=True)
    assert len(catalog.versions("default", "joe").items) == 1
    with pytest.raises(NotFound, match="no tenant"):
        register(catalog, "a", tenant="nobody")


def test_repeated_requests_are_answered_and_not_done_again(catalog: Catalog) -> None:
    register(catalog, "a")
    wish = {**JOE, "alias": "stable", "version": "1", "expected_etag": "", "request_id": "q-1"}
    made = catalog.set_alias(**wish)  # type: ignore[arg-type]
    moved = catalog.set_alias(**JOE, alias="stable", version="1")
    assert catalog.set_alias(**wish) == made  # type: ignore[arg-type]
    assert tuple(catalog.snapshot().aliases) == (moved,)
    with pytest.raises(Conflict, match="q-1 was used for another call"):
        catalog.delete_alias(**JOE, alias="stable", request_id="q-1")
    for _ in range(2):
        catalog.delete_alias(**JOE, alias="stable", request_id="q-2")
        catalog.delete_version(**JOE, version="1", request_id="q-3")
        catalog.delete_adapter(**JOE, request_id="q-4")
    with pytest.raises(InvalidReference, match="printable"):
        register(catalog, "a", request_id="a b")


def test_a_repeated_request_still_records_what_it_allows(catalog: Catalog) -> None:
    """A server in another form asks for leave that the first one did not need."""
    register(catalog, "a", request_id="q")
    made = register(catalog, "a", request_id="q", records={"allowed": {"form": "int8"}})
    assert [one.kind for one in catalog.records(made.digest)] == ["allowed"]


def test_each_tenant_counts_its_own_requests_for_bases(catalog: Catalog, base: Base) -> None:
    other = replace(base, identity=replace(base.identity, name="other", weights_digest="sha256:" + "e" * 64))
    for tenant, one in (("ann", base), ("joe", other)):
        catalog.register_tenant(tenant)
        catalog.register_base(one, tenant=tenant, request_id="q")
    with pytest.raises(Conflict, match="another call"):
        catalog.register_base(other, tenant="ann", request_id="q")


def test_a_catalog_is_known_by_its_making_whatever_tenants_come(tmp_path: Path) -> None:
    moments = [datetime(2026, 1, 2, tzinfo=UTC)]
    catalog = Catalog(Database.open(f"sqlite:///{tmp_path}/c.db"), now=lambda: moments[-1])
    before = catalog.identity()
    moments.append(datetime(2026, 1, 1, tzinfo=UTC))
    catalog.register_tenant("ann")
    assert catalog.identity() == before
    catalog.close()


def test_old_answers_are_forgotten(tmp_path: Path) -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC)]
    catalog = Catalog(Database.open(f"sqlite:///{tmp_path}/c.db"), now=lambda: moments[-1])
    register(catalog, "a")
    register(catalog, "a", request_id="q")
    moments.append(moments[0] + timedelta(days=8))
    register(catalog, "b", request_id="r")
    assert register(catalog, "b", request_id="q").number == 2
    catalog.close()


def test_records_are_appended(catalog: Catalog) -> None:
    made = register(catalog, "a")
    catalog.add_record(made.digest, "parity", {"mean": 0.01})
    catalog.add_record(made.digest, "metrics", {"loss": [1, 2]})
    assert [(record.kind, record.body) for record in catalog.records(made.digest)] == [
        ("parity", {"mean": 0.01}),
        ("metrics", {"loss": [1, 2]}),
    ]
    catalog.register_tenant("acme")
    assert catalog.records(made.digest, tenant="acme") == ()
    with pytest.raises(NotFound):
        catalog.add_record("sha256:" + "f" * 64, "parity", {})
    with pytest.raises(InvalidReference, match="plain JSON"):
        catalog.add_record(made.digest, "parity", {"mean": float("nan")})


def test_pages_cover_the_list_once(catalog: Catalog) -> None:
    names = [f"a{number:02d}" for number in range(7)]
    for name in names:
        register(catalog, "a", adapter=name)
    seen, token = [], None
    while True:
        page = catalog.adapters(page_size=3, page_token=token)
        seen += [adapter.name for adapter in page.items]
        token = page.next_page_token
        if token is None:
            break
        assert len(page.items) == 3
    assert seen == names
    register(catalog, "b", adapter="a00")
    page = catalog.versions("default", "a00", page_size=1)
    assert [version.number for version in page.items] == [1]
    last = catalog.versions("default", "a00", page_size=1, page_token=page.next_page_token)
    assert ([version.number for version in last.items], last.next_page_token) == ([2], None)
    for wrong in ("x", "%%%", "bnVsbA", page.next_page_token):
        with pytest.raises(InvalidReference, match="token"):
            catalog.adapters(page_token=wrong)
    with pytest.raises(InvalidReference, match="negative"):
        catalog.adapters(page_size=-1)


def test_of_two_replicas_that_move_one_alias_exactly_one_wins(tmp_path: Path) -> None:
    """F14: 100 rounds between two processes."""
    url, rounds = f"sqlite:///{tmp_path}/catalog.db", 100
    catalog = Catalog.open(url)
    register(catalog, "a")
    catalog.set_alias(**JOE, alias="stable", version="1")
    catalog.close()
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.SimpleQueue()
    replicas = [context.Process(target=race, args=(url, barrier, rounds, queue)) for _ in range(2)]
    for replica in replicas:
        replica.start()
    for replica in replicas:
        replica.join(120)
        assert replica.exitcode == 0
    won = []
    while not queue.empty():
        won.append(queue.get())
    assert sorted(won) == list(range(rounds))


def test_threads_share_a_catalog(catalog: Catalog) -> None:
    made: list[int] = []

    def work(content: str) -> None:
        made.append(register(catalog, content).number)

    threads = [threading.Thread(target=work, args=(f"{number:02x}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(1, 17))


def test_a_locked_database_is_unavailable_within_two_seconds(catalog: Catalog, tmp_path: Path) -> None:
    register(catalog, "a")
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    with pytest.raises(CatalogUnavailable, match="locked"):
        register(catalog, "b")
    assert time.monotonic() - begun < 30, "the lock is held for ever"
    other.execute("ROLLBACK")
    assert register(catalog, "b").number == 2
    with catalog._database.reading() as connection:  # how long SQLite waits by its own clock, whatever else runs here
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() < 2000
    other.close()


@pytest.mark.parametrize("damage", ["header", "page", "text", "dangling"])
def test_a_corrupt_file_is_refused_with_advice(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "catalog.db"
    catalog = Catalog.open(f"sqlite:///{path}")
    for number in range(60):
        register(catalog, f"{number:02x}", adapter=f"a{number}")
    catalog.close()
    if damage == "text":
        path.write_text("this is no database, and long enough to be read as one" * 100)
    elif damage == "dangling":
        raw = sqlite3.connect(path)
        raw.execute("DELETE FROM adapters WHERE name = 'a7'")
        raw.commit()
        raw.close()
    else:
        with path.open("r+b") as file:
            file.seek(0 if damage == "header" else path.stat().st_size // 2)
            file.write(b"\xff" * 3000)
    with pytest.raises(CatalogCorrupt, match="restore a backup"):
        Catalog.open(f"sqlite:///{path}")


@pytest.mark.parametrize("url", ["nonsense", "nosuch://host/db", "sqlite:////proc/nowhere/catalog.db"])
def test_a_url_that_leads_nowhere_is_explained(url: str) -> None:
    with pytest.raises(CatalogUnavailable):
        Catalog.open(url)


def test_an_in_memory_catalog_works_across_threads() -> None:
    catalog = Catalog.open("sqlite://")
    thread = threading.Thread(target=register, args=(catalog, "a"))
    thread.start()
    thread.join()
    assert len(catalog.versions("default", "joe").items) == 1
    catalog.close()


def test_migrations_build_exactly_the_tables(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/c.db"
    Catalog.open(url).close()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        assert connection.execute(sa.text("SELECT name FROM tenants")).scalars().all() == ["default"]
        # Alembic's comparison does not look at foreign keys' and primary keys' columns on SQLite by itself.
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            built = {tuple(key["constrained_columns"]) for key in inspector.get_foreign_keys(table.name)}
            assert built == {tuple(key.column_keys) for key in table.foreign_key_constraints}
            primary = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert primary == [column.name for column in table.primary_key.columns]
    engine.dispose()


def test_the_migrations_are_one_branch_of_their_own() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    (head,) = script.get_heads()
    assert "adapters" in script.get_revision(head).branch_labels


def test_a_catalog_of_a_newer_program_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    Catalog.open(f"sqlite:///{path}").close()
    raw = sqlite3.connect(path)
    raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = 'adapters_9999'")
    raw.commit()
    raw.close()
    with pytest.raises(CatalogUnavailable, match="newer Graft"):
        Catalog.open(f"sqlite:///{path}")


def test_processes_may_open_an_empty_catalog_at_once(tmp_path: Path) -> None:
    program = f"from graft.adapters.catalog.catalog import Catalog; Catalog.open('sqlite:///{tmp_path}/c.db').close()"
    opening = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(60) for process in opening] == [0, 0, 0]
