"""What requests resolve follows each write, and costs a write that changes none of it one look at a number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from graft.adapters.accepting import OTHER_FORM_RECORD
from graft.adapters.adapter import UNKNOWN_LINEAGE, AdapterVersion, Provenance
from graft.adapters.base.base import Base
from graft.adapters.catalog.catalog import Catalog
from graft.adapters.catalog.versions import Draft
from graft.adapters.errors import IncompatibleAdapter
from graft.adapters.form import ServingForm
from graft.server.registry.snapshots import Snapshots
from graft.server.registry.thread import CatalogThread
from tests.adapters.making import make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture
def snapshots(base: Base) -> Snapshots:
    return Snapshots(base, ServingForm.NF4)


@pytest.fixture
async def catalog(snapshots: Snapshots, base: Base, tmp_path: Path) -> AsyncIterator[CatalogThread]:
    thread = CatalogThread(Catalog.open(f"sqlite:///{tmp_path}/c.db"), written=snapshots.refresh)
    await thread.write(lambda one: one.register_base(base))
    yield thread
    await thread.close()


def register(
    catalog: Catalog,
    base: Base,
    adapter: str,
    *,
    allowed: bool = False,
    job: str = "",
    tenant: str = "default",
    num_virtual_tokens: int = 0,
) -> AdapterVersion:
    """A version that was trained on another form than is served."""
    draft = Draft(
        tenant=tenant,
        adapter=adapter,
        base=base.identity,
        form=ServingForm.BF16,
        rank=8,
        alpha=16,
        target_modules=("q_proj",),
        files=(),
        provenance=Provenance.TRAINED,
        lineage=replace(UNKNOWN_LINEAGE, job=job or adapter),
        records={OTHER_FORM_RECORD: {"form": "nf4"}} if allowed else {},
        num_virtual_tokens=num_virtual_tokens,
    )
    return catalog.register_version(draft)


def note_statements(catalog: Catalog) -> list[str]:
    sent: list[str] = []
    event.listen(catalog._database._engine, "before_cursor_execute", lambda *call: sent.append(call[2]))
    return sent


async def test_one_tenants_name_for_a_version_is_not_told_to_others(
    catalog: CatalogThread, snapshots: Snapshots, base: Base
) -> None:
    made = await catalog.write(lambda one: register(one, base, "dates"))
    assert snapshots.name_of(made.digest) == "dates@1"
    await catalog.write(lambda one: one.register_tenant("ann"))
    await catalog.write(lambda one: register(one, base, "secret", job="dates", tenant="ann"))
    assert snapshots.name_of(made.digest) == made.digest


async def test_a_write_that_changes_no_name_reads_no_version(
    catalog: CatalogThread, snapshots: Snapshots, base: Base
) -> None:
    version = await catalog.write(lambda one: register(one, base, "joe"))
    before = snapshots.current
    sent = await catalog.read(note_statements)
    await catalog.write(lambda one: one.add_record(version.digest, "heartbeat", {}))
    assert snapshots.current is before
    looked = sent[next(i for i, one in enumerate(sent) if one.startswith("INSERT INTO records")) + 1 :]
    assert [one.partition("FROM ")[2] for one in looked if "SELECT" in one] == ["revision"]


async def test_leave_for_another_form_is_asked_of_what_changed(
    catalog: CatalogThread, snapshots: Snapshots, base: Base
) -> None:
    amy = await catalog.write(lambda one: register(one, base, "amy", allowed=True))
    bob = await catalog.write(lambda one: register(one, base, "bob"))
    snapshots.check_servable(amy)
    with pytest.raises(IncompatibleAdapter, match="was trained on bf16"):
        snapshots.check_servable(bob)
    sent = await catalog.read(note_statements)
    await catalog.write(lambda one: register(one, base, "bob", allowed=True))
    assert sum("FROM records" in one for one in sent) == 1
    snapshots.check_servable(amy)
    snapshots.check_servable(bob)


async def test_another_server_s_change_is_seen_with_the_next_write(
    catalog: CatalogThread, snapshots: Snapshots, base: Base, tmp_path: Path
) -> None:
    await catalog.write(lambda one: register(one, base, "joe"))
    other = Catalog.open(f"sqlite:///{tmp_path}/c.db")
    other.set_alias(tenant="default", adapter="joe", alias="stable", version="1")
    other.close()
    await catalog.write(lambda one: one.register_tenant("acme"))
    assert snapshots.current.resolve("joe").alias == "stable"


async def test_a_soft_prompt_stays_known_as_one(catalog: CatalogThread, snapshots: Snapshots, base: Base) -> None:
    """Whoever leased it gives it back to where it was taken from: also once it is deleted, or ahead of the picture."""
    lora = await catalog.write(lambda one: register(one, base, "lora", allowed=True))
    soft = await catalog.write(lambda one: register(one, base, "soft", allowed=True, num_virtual_tokens=4))
    await catalog.write(lambda one: one.delete_adapter(tenant="default", adapter="soft", force=True))
    assert [snapshots.is_soft_prompt(one.digest) for one in (lora, soft)] == [False, True]
    other = Snapshots(base, ServingForm.BF16)
    assert not other.is_soft_prompt(soft.digest)
    other.check_servable(soft)
    assert other.is_soft_prompt(soft.digest)
