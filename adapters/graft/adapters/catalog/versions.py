"""Writes of tenants, bases, adapters, versions and records, each in the transaction of its caller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from graft.adapters.adapter import (
    AdapterFile,
    AdapterVersion,
    BaseIdentity,
    Lineage,
    Provenance,
    version_digest,
)
from graft.adapters.base.base import Base, shipped_bases
from graft.adapters.catalog import changes, replay, rows, tables
from graft.adapters.catalog.needs import Needs, check_unneeded
from graft.adapters.catalog.reads import get_adapter, get_version
from graft.adapters.catalog.rows import Record
from graft.adapters.errors import AlreadyExists, Conflict, InvalidReference, NotFound, Reason
from graft.adapters.form import ServingForm
from graft.adapters.names import check_adapter_name, check_name


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A version before the catalog numbered it."""

    tenant: str
    adapter: str
    base: BaseIdentity
    form: ServingForm
    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    files: tuple[AdapterFile, ...]
    provenance: Provenance
    lineage: Lineage
    num_virtual_tokens: int = 0
    num_labels: int = 0
    records: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """By kind: what is appended with the version, and said again where its content is there already."""

    def digest(self) -> str:
        """The version's digest."""
        return version_digest(
            files=self.files, base=self.base, form=self.form, provenance=self.provenance, lineage=self.lineage
        )


def register_tenant(connection: sa.Connection, name: str, *, now: datetime) -> None:
    """Make a tenant unless it is there."""
    check_name(name, what="tenant")
    if not _has_tenant(connection, name):
        connection.execute(sa.insert(tables.tenants).values(name=name, create_time=now))


def register_base(connection: sa.Connection, base: Base, *, tenant: str, request_id: str | None, now: datetime) -> None:
    """Remember a base, or its new path and name. A quantized folder does not displace another one of its base.

    Bases are every tenant's; `tenant` is whose `request_id` it is.
    """
    call = ["register_base", base.name, base.digest]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    check_base_name(connection, base.name)
    _keep_base(connection, base, now)
    replay.remember(connection, tenant, request_id, call, {}, now=now)


def check_base_name(connection: sa.Connection, name: str) -> None:
    """Adapters and bases share one space of names: a request could not say which of the two it means.

    Raises AlreadyExists.
    """
    adapters = tables.adapters
    if connection.execute(sa.select(adapters.c.name).where(adapters.c.name == name)).first() is not None:
        problem = f"{name!r} is the name of an adapter, and a request for it could mean either"
        remedy = (
            f"call the base otherwise (a folder by its own name), or delete the adapter: graft adapters delete {name}"
        )
        raise AlreadyExists(
            f"the base cannot be called {name!r}", [Reason(field="name", problem=problem, remedy=remedy)]
        )


def _keep_base(connection: sa.Connection, base: Base, now: datetime) -> None:
    table = tables.bases
    row = asdict(base.identity) | {"path": str(base.path)}
    _forget_unconfigured(connection, base)
    known = connection.execute(sa.select(table.c.path).where(table.c.digest == base.digest)).scalar()
    if known is None:
        connection.execute(sa.insert(table).values(**row, create_time=now))
    elif base.form is None or not Path(known).is_dir():
        connection.execute(sa.update(table).where(table.c.digest == base.digest).values(**row))


def _forget_unconfigured(connection: sa.Connection, base: Base) -> None:
    """Drop the row that an earlier Graft, which did not ask for the configuration, wrote of the same folder."""
    table = tables.bases
    if base.identity.config_digest is not None:
        here = (table.c.digest == base.identity.digest_without_config, table.c.path == str(base.path))
        connection.execute(sa.delete(table).where(*here))


def register_version(
    connection: sa.Connection, draft: Draft, *, request_id: str | None, now: datetime
) -> AdapterVersion:
    """Number and keep a version; the same content under the same adapter is the version that is there."""
    check_adapter_name(draft.adapter)
    digest = draft.digest()
    call = ["register_version", draft.adapter, digest]
    is_repeated = replay.recall(connection, draft.tenant, request_id, call) is not None
    get = get_version if is_repeated else _existing
    found = get(connection, draft.tenant, draft.adapter, digest)
    is_new = found is None
    if found is None:
        found = _numbered(draft, digest, number=_next_number(connection, draft, now), now=now)
        connection.execute(sa.insert(tables.versions).values(**rows.version_row(found)))
    for kind, body in draft.records.items():
        add_record(connection, draft.tenant, digest, kind, body, now=now)
    if not is_repeated:
        replay.remember(connection, draft.tenant, request_id, call, {"digest": digest}, now=now)
    if is_new or draft.records:
        changes.record(connection, draft.tenant, draft.adapter)
    return found


def _numbered(draft: Draft, digest: str, *, number: int, now: datetime) -> AdapterVersion:
    content = {name: getattr(draft, name) for name in Draft.__dataclass_fields__ if name != "records"}
    size_bytes = sum(file.size_bytes for file in draft.files)
    return AdapterVersion(**content, digest=digest, number=number, size_bytes=size_bytes, create_time=now)


def delete_version(
    connection: sa.Connection,
    tenant: str,
    adapter: str,
    selector: str,
    *,
    needs: Needs,
    request_id: str | None,
    now: datetime,
) -> None:
    """Delete a version that no alias points at, and nobody needs."""
    call = ["delete_version", adapter, selector]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    version = get_version(connection, tenant, adapter, selector)
    table = tables.aliases
    query = sa.select(table.c.name).where(
        table.c.tenant == tenant, table.c.adapter == adapter, table.c.version_digest == version.digest
    )
    pointing = sorted(connection.execute(query).scalars())
    if pointing:
        remedy = "move or delete the alias first"
        reasons = [Reason(field="alias", problem=f"{adapter}:{name} points at it", remedy=remedy) for name in pointing]
        raise Conflict(f"version {version.number} of {adapter} is in use", reasons)
    check_unneeded(connection, needs, tenant, adapter, digest=version.digest)
    versions = tables.versions
    here = (versions.c.tenant == tenant, versions.c.adapter == adapter, versions.c.digest == version.digest)
    connection.execute(sa.delete(versions).where(*here))
    replay.remember(connection, tenant, request_id, call, {}, now=now)
    changes.record(connection, tenant, adapter)


def delete_adapter(
    connection: sa.Connection,
    tenant: str,
    adapter: str,
    force: bool,
    *,
    needs: Needs,
    request_id: str | None,
    now: datetime,
) -> None:
    """Delete an adapter; with `force` its aliases and versions too, unless somebody needs one."""
    call = ["delete_adapter", adapter, force]
    if replay.recall(connection, tenant, request_id, call) is not None:
        return
    get_adapter(connection, tenant, adapter)
    versions, aliases, adapters = tables.versions, tables.aliases, tables.adapters
    query = sa.select(sa.func.count()).where(versions.c.tenant == tenant, versions.c.adapter == adapter)
    num_versions = connection.execute(query).scalar_one()
    if num_versions and not force:
        versions_text = "1 version" if num_versions == 1 else f"{num_versions} versions"
        problem = f"has {versions_text}"
        remedy = f"say force to delete all of it: graft adapters delete {adapter} --yes"
        raise Conflict(f"adapter {adapter} is not empty", [Reason(field=adapter, problem=problem, remedy=remedy)])
    check_unneeded(connection, needs, tenant, adapter)
    connection.execute(sa.delete(aliases).where(aliases.c.tenant == tenant, aliases.c.adapter == adapter))
    connection.execute(sa.delete(versions).where(versions.c.tenant == tenant, versions.c.adapter == adapter))
    connection.execute(sa.delete(adapters).where(adapters.c.tenant == tenant, adapters.c.name == adapter))
    replay.remember(connection, tenant, request_id, call, {}, now=now)
    changes.record(connection, tenant, adapter)


def add_record(
    connection: sa.Connection, tenant: str, digest: str, kind: str, body: Mapping[str, object], *, now: datetime
) -> Record:
    """Append a record about one of the tenant's versions."""
    check_name(kind, what="kind")
    try:
        plain = json.loads(json.dumps(body, allow_nan=False))
    except (TypeError, ValueError) as error:
        reason = Reason(field="body", problem=f"is not plain JSON ({error})")
        raise InvalidReference("invalid record", [reason]) from error
    versions = tables.versions
    query = sa.select(versions.c.digest).where(versions.c.tenant == tenant, versions.c.digest == digest)
    if connection.execute(query).first() is None:
        raise NotFound(f"there is no version with the digest {digest[:100]!r}")
    row = {"tenant": tenant, "version_digest": digest, "kind": kind, "body": plain, "create_time": now}
    connection.execute(sa.insert(tables.records).values(**row))
    return Record(version_digest=digest, kind=kind, body=plain, create_time=now)


def _has_tenant(connection: sa.Connection, name: str) -> bool:
    table = tables.tenants
    return connection.execute(sa.select(table.c.name).where(table.c.name == name)).first() is not None


def _existing(connection: sa.Connection, tenant: str, adapter: str, digest: str) -> AdapterVersion | None:
    table = tables.versions
    here = (table.c.tenant == tenant, table.c.adapter == adapter, table.c.digest == digest)
    row = connection.execute(sa.select(table).where(*here)).mappings().first()
    return None if row is None else rows.version(row)


def _next_number(connection: sa.Connection, draft: Draft, now: datetime) -> int:
    """Take the adapter's next number; the adapter is made when it is new."""
    table = tables.adapters
    here = (table.c.tenant == draft.tenant, table.c.name == draft.adapter)
    taken = connection.execute(sa.update(table).where(*here).values(next_number=table.c.next_number + 1))
    if taken.rowcount:
        return int(connection.execute(sa.select(table.c.next_number).where(*here)).scalar_one()) - 1
    if not _has_tenant(connection, draft.tenant):
        raise NotFound(f"there is no tenant {draft.tenant[:100]!r}")
    bases = tables.bases
    registered = connection.execute(sa.select(bases.c.name).where(bases.c.name == draft.adapter)).first()
    if registered is not None or draft.adapter in shipped_bases():
        problem = f"{draft.adapter!r} is the name of a base, and a request for it could mean either"
        reason = Reason(field="adapter", problem=problem, remedy="choose another name")
        raise InvalidReference("invalid adapter name", [reason])
    values = {"tenant": draft.tenant, "name": draft.adapter, "next_number": 2, "create_time": now}
    connection.execute(sa.insert(table).values(**values))
    return 1
