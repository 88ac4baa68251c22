"""Writes of versions, each in the transaction of its caller."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from graft.adapters.catalog import replay
from graft.adapters.catalog.tables import tenants
from graft.adapters.errors import Conflict, NotFound, Reason
from graft.server.prompting.catalog import reads, tables
from graft.server.prompting.catalog.draft import Draft
from graft.server.prompting.catalog.labels import Wish, point
from graft.server.prompting.catalog.prompt import PromptVersion

_versions = tables.versions


def register(connection: sa.Connection, draft: Draft, *, request_id: str | None, now: datetime) -> PromptVersion:
    """Number and keep a version and point its labels at it; content that is there already is that version.

    Of such a version tags and message stay what they are. Raises NotFound for the tenant, and for a version that was
    deleted since this request was first carried out.
    """
    digest = draft.digest
    call = ["register_prompt_version", draft.prompt, digest, draft.tags, draft.commit_message, draft.labels]
    answer = replay.recall(connection, draft.tenant, request_id, call)
    entry = reads.entry(connection, draft.tenant, draft.prompt)
    if answer is not None:
        return entry.find(str(answer["number"])).version
    version = next((one for one in entry.versions.values() if one.digest == digest), None)
    if version is None:
        number = _next_number(connection, draft)
        row = {name: getattr(draft, name) for name in ("tenant", "prompt", "text", "tags", "commit_message")}
        version = PromptVersion(**row, digest=digest, number=number, create_time=now)
        values = {name: getattr(version, name) for name in PromptVersion.__dataclass_fields__}
        connection.execute(sa.insert(_versions).values(**{**values, "tags": list(version.tags)}))
    for label in draft.labels:
        wish = Wish(tenant=draft.tenant, prompt=draft.prompt, label=label, version=None, expected_etag=None)
        point(connection, wish, entry.labels.get(label), version.number, now)
    replay.remember(connection, draft.tenant, request_id, call, {"number": version.number}, now=now)
    if draft.labels or version.number not in entry.versions:
        reads.record_change(connection, draft.tenant, draft.prompt)
    return version


def delete_version(
    connection: sa.Connection, tenant: str, prompt: str, selector: str, *, request_id: str | None, now: datetime
) -> None:
    """Delete a version that no label points at. Raises NotFound, Conflict."""
    call = ["delete_prompt_version", prompt, selector]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    entry = reads.entry(connection, tenant, prompt)
    number = entry.find(selector).version.number
    pointing = [label.name for label in entry.labels.values() if label.version_number == number]
    if pointing:
        remedy = "move or delete the label first"
        reasons = [Reason(field="label", problem=f"{prompt}:{name} points at it", remedy=remedy) for name in pointing]
        raise Conflict(f"version {number} of {prompt} is in use", reasons)
    here = (_versions.c.tenant == tenant, _versions.c.prompt == prompt, _versions.c.number == number)
    connection.execute(sa.delete(_versions).where(*here))
    replay.remember(connection, tenant, request_id, call, {}, now=now)
    reads.record_change(connection, tenant, prompt)


def delete_prompt(
    connection: sa.Connection, tenant: str, prompt: str, force: bool, *, request_id: str | None, now: datetime
) -> None:
    """Delete all versions and labels, if `force` is said; no number is given again. Raises NotFound, Conflict."""
    call = ["delete_prompt", prompt, force]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    entry = reads.entry(connection, tenant, prompt)
    entry.find("latest")
    if not force:
        num = len(entry.versions)
        remedy = f"say force to delete all of it: graft prompts delete {prompt} --yes"
        problem = f"has {num} version{'s' if num > 1 else ''}"
        raise Conflict(f"the prompt {prompt} is not empty", [Reason(field=prompt, problem=problem, remedy=remedy)])
    for table in (tables.labels, _versions):
        connection.execute(sa.delete(table).where(table.c.tenant == tenant, table.c.prompt == prompt))
    replay.remember(connection, tenant, request_id, call, {}, now=now)
    reads.record_change(connection, tenant, prompt)


def _next_number(connection: sa.Connection, draft: Draft) -> int:
    table = tables.prompts
    here = (table.c.tenant == draft.tenant, table.c.name == draft.prompt)
    taken = connection.execute(sa.update(table).where(*here).values(next_number=table.c.next_number + 1))
    if taken.rowcount:
        return int(connection.execute(sa.select(table.c.next_number).where(*here)).scalar_one()) - 1
    if connection.execute(sa.select(tenants.c.name).where(tenants.c.name == draft.tenant)).first() is None:
        raise NotFound(f"there is no tenant {draft.tenant[:100]!r}")
    connection.execute(sa.insert(table).values(tenant=draft.tenant, name=draft.prompt, next_number=2))
    return 1
