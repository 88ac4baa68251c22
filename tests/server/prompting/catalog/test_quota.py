"""A tenant keeps so much and no more; what is there already, what is deleted and others' programs do not count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from graft.adapters.catalog.catalog import Catalog
from graft.server.errors import QuotaExceeded
from graft.server.prompting.catalog.catalog import PromptCatalog
from graft.server.prompting.catalog.draft import Draft
from graft.server.prompting.catalog.prompt import PromptLabel, PromptVersion
from graft.server.prompting.catalog.prompts import Prompts
from graft.server.prompting.catalog.quota import Quota
from graft.server.prompting.catalog.snapshot import PromptEntry, PromptSnapshot
from graft.server.prompting.program.program import PromptProgram
from graft.server.registry.thread import CatalogThread
from tests.server.prompting.catalog.test_prompts import opened

MIB = 1 << 20
NUM_FIT = 10


def draft(number: int, *, tenant: str = "default", labels: tuple[str, ...] = ()) -> Draft:
    """A tenth of the quota, in characters of three bytes."""
    program = PromptProgram(prompt=f"{number}" + "€" * (100_000 // 3))
    return Draft(tenant=tenant, prompt=f"p{number % 3}", program=program, labels=labels)


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Prompts]]:
    """Two, of one database."""
    database = opened(tmp_path)
    catalog = Catalog(database)
    catalog.register_tenant("other")
    thread = CatalogThread(catalog, written=lambda catalog: None)
    yield [Prompts(PromptCatalog(database), thread, quota=Quota(max_mib=1)) for _ in range(2)]
    await thread.close()


async def test_a_tenant_keeps_what_its_quota_allows_and_no_more(servers: list[Prompts]) -> None:
    for number in range(NUM_FIT):
        await servers[number % 2].register(draft(number))
    for prompts in servers:
        with pytest.raises(QuotaExceeded) as caught:
            await prompts.register(draft(NUM_FIT))
        held = sum(one.num_bytes for one in prompts.current.of_tenant("default"))
        assert MIB - 110_000 < held <= MIB
        for words in (str(held), str(MIB), "max_prompts_mib = 1", "graft prompts delete"):
            assert words in str(caught.value)
    assert not (await servers[0].register(draft(3))).is_new, "it is there already"
    await servers[0].register(draft(3, tenant="other"))
    await servers[1].delete_version(tenant="default", prompt="p0", version="1", request_id=None)
    assert (await servers[0].register(draft(NUM_FIT))).is_new


def snapshot_of(*, num_versions: int, num_labels: int) -> PromptSnapshot:
    """One program of the smallest versions that there are."""
    now = datetime.now(UTC)
    one = Draft(tenant="default", prompt="s", program=PromptProgram(prompt=""))
    common = {"tenant": "default", "prompt": "s", "tags": (), "commit_message": "", "create_time": now}
    versions = {
        number: PromptVersion(number=number, digest=f"sha256:{number}", text=one.text, **common)
        for number in range(1, num_versions + 1)
    }
    labels = {
        f"l{number}": PromptLabel(
            tenant="default", prompt="s", name=f"l{number}", version_number=1, etag="", update_time=now
        )
        for number in range(num_labels)
    }
    entry = PromptEntry(name="s", versions=versions, labels=labels)
    return PromptSnapshot().with_entries({("default", "s"): entry}, revision=1)


def test_versions_and_labels_count_however_small_they_are() -> None:
    """Fewer than a thousand versions fit into a megabyte, and about two thousand labels of one."""
    quota, more = Quota(max_mib=1), Draft(tenant="default", prompt="s", program=PromptProgram(prompt="1"))
    quota.check_register(more, snapshot_of(num_versions=900, num_labels=0))
    quota.check_label("default", "s", "new", snapshot_of(num_versions=1, num_labels=2000))
    for full in (snapshot_of(num_versions=1024, num_labels=0), snapshot_of(num_versions=1, num_labels=2048)):
        with pytest.raises(QuotaExceeded):
            quota.check_register(more, full)
        with pytest.raises(QuotaExceeded):
            quota.check_label("default", "s", "new", full)
        there = full.entries["default", "s"]
        for label in list(there.labels)[:1]:
            quota.check_label("default", "s", label, full)
