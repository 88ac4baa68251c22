"""A snapshot follows the catalog by its revision: it reads what changed, and nothing where nothing did."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from graft.adapters.catalog import rows
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.database import Database
from graft.adapters.errors import Conflict, NotFound
from tests.adapters.making import register

JOE = {"tenant": "default", "adapter": "joe"}


@contextmanager
def statements(catalog: Catalog) -> Iterator[list[str]]:
    """The SQL that reaches the database, as it is sent."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        sent.append(statement)

    engine = catalog._database._engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_write_that_changes_no_name_reads_no_version_again(catalog: Catalog) -> None:
    made = [register(catalog, f"{number:02x}", adapter=f"a{number}") for number in range(20)]
    before = catalog.snapshot("tiny")
    catalog.add_record(made[0].digest, "metrics", {"loss": 1.0})
    catalog.register_tenant("acme")
    with statements(catalog) as sent:
        assert catalog.refreshed(before) is before
    assert [one for one in sent if "BEGIN" not in one] == ["SELECT revision.number \nFROM revision"]


def test_only_what_changed_is_read(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        register(catalog, f"{number:02x}", adapter=f"a{number}")
    before = catalog.snapshot("tiny")
    catalog.set_alias(tenant="default", adapter="a7", alias="stable", version="1")
    read: list[str] = []
    monkeypatch.setattr(rows, "version", lambda row, real=rows.version: (read.append(row["adapter"]), real(row))[1])
    after = catalog.refreshed(before)
    assert read == ["a7"]
    assert after.resolve("a7").alias == "stable"
    changed = [name for name, entry in after.entries.items() if entry is not before.entries[name]]
    assert changed == [("default", "a7")]


def test_another_process_s_changes_are_seen(catalog: Catalog, tmp_path: Path) -> None:
    register(catalog, "a")
    here = catalog.snapshot("tiny")
    other = Catalog.open(f"sqlite:///{tmp_path}/catalog.db")
    register(other, "b")
    other.set_alias(**JOE, alias="stable", version="2")
    here = catalog.refreshed(here)
    assert here.resolve("joe").version == other.get_version("default", "joe", "2")
    other.delete_adapter(**JOE, force=True)
    with pytest.raises(NotFound):
        catalog.refreshed(here).resolve("joe")
    other.close()


def change(catalog: Catalog, rng: random.Random) -> None:
    """Anything that may be done, with whatever is there by chance."""
    names = {"tenant": rng.choice(["default", "acme"]), "adapter": rng.choice(["joe", "amy", "bob"])}
    alias, version = rng.choice(["stable", "canary"]), str(rng.randint(1, 4))
    calls: list[Callable[[], object]] = [
        lambda: register(catalog, rng.choice("abcdef"), **names),
        lambda: catalog.set_alias(**names, alias=alias, version=version),
        lambda: catalog.delete_alias(**names, alias=alias),
        lambda: catalog.delete_version(**names, version=version),
        lambda: catalog.delete_adapter(**names, force=rng.random() < 0.5),
    ]
    with contextlib.suppress(NotFound, Conflict):
        rng.choices(calls, weights=[6, 4, 2, 2, 1])[0]()


def test_a_refreshed_snapshot_is_what_a_new_one_would_be(catalog: Catalog) -> None:
    rng = random.Random(3)
    catalog.register_tenant("acme")
    kept = catalog.snapshot("tiny")
    for _ in range(80):
        for _ in range(rng.randint(1, 3)):  # several changes may lie between two looks
            change(catalog, rng)
        kept, anew = catalog.refreshed(kept), catalog.snapshot("tiny")
        assert kept == anew and list(kept.versions) == list(anew.versions)


def test_each_change_raises_the_revision_once_and_nothing_else_does(catalog: Catalog) -> None:
    def revision() -> int:
        return catalog.snapshot().revision

    first = revision()
    register(catalog, "a", request_id="r1")
    assert revision() == first + 1
    register(catalog, "a", request_id="r1")
    register(catalog, "a")
    with pytest.raises(NotFound):
        catalog.set_alias(**JOE, alias="stable", version="7")
    assert revision() == first + 1
    catalog.set_alias(**JOE, alias="stable", version="1")
    catalog.delete_alias(**JOE, alias="stable")
    catalog.delete_version(**JOE, version="1")
    catalog.delete_adapter(**JOE)
    assert revision() == first + 5


def test_a_catalog_of_the_code_before_is_upgraded_with_all_that_it_holds(tmp_path: Path) -> None:
    """catalog_0002.sql is a dump of a file which that code made: two tenants, three adapters, two aliases."""
    with sqlite3.connect(tmp_path / "catalog.db") as raw:
        raw.executescript(Path(__file__).with_name("catalog_0002.sql").read_text(encoding="utf-8"))
    raw.close()
    catalog = Catalog.open(f"sqlite:///{tmp_path}/catalog.db")
    snapshot = catalog.snapshot("tiny")
    assert [(one.tenant, one.adapter, one.number) for one in snapshot.versions] == [
        ("acme", "joe", 1),
        ("default", "amy", 1),
        ("default", "joe", 1),
        ("default", "joe", 2),
    ]
    version = snapshot.resolve("joe", draw=0.9).version
    assert version is not None and version.number == 1 and version.lineage.seed == 7
    (base,) = catalog.bases()
    # As that code recorded it.
    assert version.base == base.identity
    assert base.identity.digest == "sha256:8b69a6cbe9de53c7a588f5d3988bc8a577ac653b2aa2c689ad4bd08b59ddfb0c"
    assert version.digest == "sha256:b52c101f8291855820643abf8784e5dcdf5f3bd20281069a1b2b63ca36dff847"
    assert snapshot.resolve("joe", draw=0.05).alias == "canary"
    assert [record.body for record in catalog.records(version.digest)] == [{"mean": 0.1}]
    catalog.delete_alias(**JOE, alias="canary")
    assert catalog.refreshed(snapshot).resolve("joe", draw=0.05).alias == "stable"
    catalog.close()


JOBS = """
import sqlalchemy as sa
from alembic import op

revision = "jobs_0001"
down_revision = None
branch_labels = ("jobs",)
depends_on = "adapters_0001"


def upgrade():
    tenant = sa.Column("tenant", sa.String(63), sa.ForeignKey("tenants.name"))
    op.create_table("jobs", sa.Column("name", sa.String(63), primary_key=True), tenant)
"""


def test_a_room_that_owns_tables_brings_a_branch_of_its_own(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs of 100%"
    jobs.mkdir()
    (jobs / "0001_first.py").write_text(JOBS)
    url = f"sqlite:///{tmp_path}/catalog.db"
    alone = Catalog.open(url)
    made = register(alone, "a")
    alone.close()
    for _ in range(2):
        database = Database.open(url, migrations=[str(jobs)])
        with database.writing() as connection:
            connection.execute(sa.text("DELETE FROM jobs"))
            connection.execute(sa.text("INSERT INTO jobs (name, tenant) VALUES ('j1', 'default')"))
            heads = connection.execute(sa.text("SELECT version_num FROM graft_adapters_version")).scalars()
            assert {head.partition("_")[0] for head in heads} == {"adapters", "jobs"}
        assert Catalog(database).versions("default", "joe").items == (made,)
        database.close()
