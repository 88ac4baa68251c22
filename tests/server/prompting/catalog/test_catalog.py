"""Versions and labels of programs in the database, and the picture of them that requests read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
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
from graft.adapters.errors import CatalogUnavailable, Conflict, InvalidReference, NotFound
from graft.server.errors import BadInput
from graft.server.prompting.catalog.catalog import PromptCatalog
from graft.server.prompting.catalog.draft import Draft, read_draft
from graft.server.prompting.catalog.snapshot import PromptSnapshot
from graft.server.prompting.catalog.tables import MIGRATIONS, metadata
from graft.server.prompting.program.program import PromptProgram
from graft.server.prompting.program.references import read_reference

GREET = "team/greet"


def draft(text: str, *, prompt: str = GREET, tenant: str = "default", **others: Any) -> Draft:
    return Draft(tenant=tenant, prompt=prompt, program=PromptProgram(prompt=text), **others)


def opened(folder: Path) -> Database:
    return Database.open(f"sqlite:///{folder}/c.db", migrations=[MIGRATIONS])


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = opened(tmp_path)
    yield database
    database.close()


@pytest.fixture
def catalog(database: Database) -> PromptCatalog:
    return PromptCatalog(database)


def meaning(catalog: PromptCatalog, reference: str, tenant: str = "default") -> int:
    snapshot = catalog.refreshed(PromptSnapshot())
    return snapshot.resolve(read_reference(reference), tenant=tenant).version.number


def test_versions_count_up_and_the_same_content_is_the_same_version(catalog: PromptCatalog) -> None:
    first = catalog.register(draft("a", tags=("x",), commit_message="first"))
    second = catalog.register(draft("b"))
    assert (first.number, second.number) == (1, 2) and first.digest != second.digest
    assert catalog.register(draft("a", tags=("y",))) == first
    assert catalog.register(draft("a", prompt="other")).number == 1


def test_a_number_is_never_given_twice(catalog: PromptCatalog) -> None:
    for text in "abc":
        catalog.register(draft(text))
    catalog.delete_version(tenant="default", prompt=GREET, version="3")
    assert meaning(catalog, f"{GREET}:latest") == 2
    assert catalog.register(draft("c")).number == 4
    catalog.delete_prompt(tenant="default", prompt=GREET, force=True)
    assert catalog.register(draft("a")).number == 5


def test_a_bare_name_means_production_and_nothing_else(catalog: PromptCatalog) -> None:
    catalog.register(draft("a", labels=("canary",)))
    with pytest.raises(
        NotFound, match=r"no label 'production', which a bare name means; its labels: canary \(version 1\)"
    ):
        meaning(catalog, GREET)
    catalog.register(draft("b"))
    catalog.set_label(tenant="default", prompt=GREET, label="production", version="canary")
    assert meaning(catalog, GREET) == meaning(catalog, f"{GREET}:canary") == 1
    assert meaning(catalog, f"{GREET}:latest") == meaning(catalog, f"{GREET}@2") == 2


def test_a_version_is_named_by_number_digest_and_label(catalog: PromptCatalog) -> None:
    version = catalog.register(draft("a", labels=("production",)))
    catalog.register(draft("b"))
    short = version.digest.removeprefix("sha256:")[:8]
    for reference in (f"{GREET}@1", f"{GREET}@{version.digest}", f"{GREET}@{short}", f"prompts:/{GREET}/1"):
        assert meaning(catalog, reference) == 1
    for reference in (f"{GREET}@7", f"{GREET}@{'0' * 12}", f"{GREET}:nothing", "prompt:nothing"):
        with pytest.raises(NotFound, match="does not exist"):
            meaning(catalog, reference)
    with pytest.raises(NotFound, match=f"did you mean {GREET}"):
        meaning(catalog, "team/great")


def test_labels_move_by_compare_and_set(catalog: PromptCatalog) -> None:
    for text in "ab":
        catalog.register(draft(text))

    def move(version: str, etag: str | None, label: str = "production") -> str:
        arguments = {"tenant": "default", "prompt": GREET, "label": label, "version": version, "expected_etag": etag}
        return catalog.set_label(**arguments).etag

    etag = move("1", "")
    with pytest.raises(Conflict, match=f"its etag is now {etag}, it points at version 1"):
        move("2", "")
    newer = move("2", etag)
    with pytest.raises(Conflict, match=newer):
        move("1", etag)
    assert newer != etag and meaning(catalog, GREET) == 2
    with pytest.raises(Conflict, match="does not exist"):
        move("1", "0123", label="canary")
    for label in ("latest", "3", "Staging"):
        with pytest.raises(InvalidReference):
            move("1", None, label=label)


def test_one_of_many_wins_a_compare_and_set(catalog: PromptCatalog) -> None:
    for text in "abcdefgh":
        catalog.register(draft(text))
    etag = catalog.set_label(tenant="default", prompt=GREET, label="production", version="1").etag
    won: list[str] = []

    def race(version: str) -> None:
        try:
            catalog.set_label(tenant="default", prompt=GREET, label="production", version=version, expected_etag=etag)
            won.append(version)
        except Conflict:
            pass

    racers = [threading.Thread(target=race, args=(str(number),)) for number in range(1, 9)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [str(meaning(catalog, GREET))] == won


def test_what_a_label_points_at_is_not_deleted(catalog: PromptCatalog) -> None:
    catalog.register(draft("a", labels=("production", "canary")))
    with pytest.raises(Conflict, match=f"{GREET}:canary points at it.*{GREET}:production points at it"):
        catalog.delete_version(tenant="default", prompt=GREET, version="1")
    with pytest.raises(Conflict, match=r"1 version;.*--yes"):
        catalog.delete_prompt(tenant="default", prompt=GREET)
    for label in ("production", "canary"):
        catalog.delete_label(tenant="default", prompt=GREET, label=label)
    with pytest.raises(NotFound, match="has no label 'canary'; its labels: none"):
        catalog.delete_label(tenant="default", prompt=GREET, label="canary")
    catalog.delete_version(tenant="default", prompt=GREET, version="1")
    with pytest.raises(NotFound):
        catalog.delete_prompt(tenant="default", prompt=GREET)
    assert catalog.refreshed(PromptSnapshot()).entries == {}


def test_a_repeated_request_is_answered_again_and_not_done_again(catalog: PromptCatalog) -> None:
    catalog.register(draft("a"))
    first = catalog.register(draft("b", labels=("production",)), request_id="r1")
    catalog.set_label(tenant="default", prompt=GREET, label="production", version="1", request_id="r2")
    assert catalog.register(draft("b", labels=("production",)), request_id="r1") == first
    assert meaning(catalog, GREET) == 1
    moved = catalog.set_label(tenant="default", prompt=GREET, label="production", version="1", request_id="r2")
    assert moved.version_number == 1
    with pytest.raises(Conflict, match="used for another call"):
        catalog.register(draft("c"), request_id="r1")
    catalog.delete_prompt(tenant="default", prompt=GREET, force=True, request_id="r3")
    catalog.delete_prompt(tenant="default", prompt=GREET, force=True, request_id="r3")


def test_tenants_see_their_own_only(catalog: PromptCatalog, database: Database) -> None:
    Catalog(database).register_tenant("acme")
    catalog.register(draft("a", labels=("production",)))
    catalog.register(draft("theirs", tenant="acme", labels=("production",)))
    with pytest.raises(NotFound, match="did you mean") as caught:
        meaning(catalog, "team/greeting", tenant="acme")
    assert "default" not in str(caught.value)
    snapshot = catalog.refreshed(PromptSnapshot())
    texts = {one: snapshot.get(one, GREET).latest.program.prompt for one in ("default", "acme")}
    assert texts == {"default": "a", "acme": "theirs"}
    with pytest.raises(NotFound, match="no tenant 'nobody'"):
        catalog.register(draft("a", tenant="nobody"))


def test_another_process_is_seen_by_the_revision(catalog: PromptCatalog, tmp_path: Path) -> None:
    catalog.register(draft("a", labels=("production",)))
    catalog.register(draft("x", prompt="other"))
    before = catalog.refreshed(PromptSnapshot())
    assert catalog.refreshed(before) is before
    elsewhere = opened(tmp_path)
    PromptCatalog(elsewhere).register(draft("b", labels=("production",)))
    elsewhere.close()
    after = catalog.refreshed(before)
    assert after.resolve(read_reference(GREET), tenant="default").version.number == 2
    # What did not change is not read again, and a program that was read is not read from JSON again.
    assert after.entries["default", "other"] is before.entries["default", "other"]
    assert after.entries["default", GREET].versions[1] is before.entries["default", GREET].versions[1]
    assert before.resolve(read_reference(GREET), tenant="default").version.number == 1


@given(st.lists(st.tuples(st.sampled_from("rld"), st.sampled_from("abc"), st.sampled_from(["x", "y"])), max_size=12))
def test_the_picture_that_grows_is_the_picture_read_anew(steps: list[tuple[str, str, str]]) -> None:
    database = Database.open("sqlite://", migrations=[MIGRATIONS])
    catalog, growing = PromptCatalog(database), PromptSnapshot()
    for kind, text, label in steps:
        try:
            if kind == "r":
                catalog.register(draft(text, labels=(label,)))
            elif kind == "l":
                catalog.set_label(tenant="default", prompt=GREET, label=label, version="latest")
            else:
                catalog.delete_version(tenant="default", prompt=GREET, version="latest")
        except (NotFound, Conflict):
            pass
        growing = catalog.refreshed(growing)
        assert growing == catalog.refreshed(PromptSnapshot())
    database.close()


def test_migrations_build_exactly_the_tables(tmp_path: Path) -> None:
    opened(tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/c.db")
    with engine.connect() as connection:
        options = {
            "version_table": VERSION_TABLE,
            "include_name": lambda name, kind, _: kind != "table" or name in ours,
        }
        ours = set(metadata.tables)
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            built = {tuple(key["constrained_columns"]) for key in inspector.get_foreign_keys(table.name)}
            assert built == {tuple(key.column_keys) for key in table.foreign_key_constraints}
            primary = inspector.get_pk_constraint(table.name)["constrained_columns"]
            assert primary == [column.name for column in table.primary_key.columns]
    engine.dispose()


def test_a_database_of_before_gets_the_tables(tmp_path: Path) -> None:
    Catalog.open(f"sqlite:///{tmp_path}/c.db").close()
    database = opened(tmp_path)
    assert PromptCatalog(database).register(draft("a")).number == 1
    database.close()
    with pytest.raises(CatalogUnavailable, match="with more parts"):
        Catalog.open(f"sqlite:///{tmp_path}/c.db")


def test_a_draft_is_refused_with_everything_that_is_wrong_with_it() -> None:
    program = json.dumps({"promt": "x"})
    with pytest.raises(BadInput) as caught:
        read_draft(
            tenant="default", prompt="a b", program=program, tags=["", "x" * 65], commit_message="x" * 2001,
            labels=["latest", "fine", "3"],
        )  # fmt: skip
    assert {one.field for one in caught.value.violations} == {
        "prompt", "program.promt", "program.prompt", "tags[0]", "tags[1]", "commit_message", "labels[0]", "labels[2]",
    }  # fmt: skip
