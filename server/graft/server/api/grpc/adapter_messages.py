"""The catalog's values as messages."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TypeVar

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from graft.adapters import adapter as values
from graft.adapters.catalog.rows import Record
from graft.server.api.grpc.inference_messages import form_message
from graft.server.residency.policy import Resident, State
from graft.v1 import adapter_pb2 as pb

_Moved = TypeVar(
    "_Moved", pb.SetAliasResponse, pb.UploadVersionResponse, pb.ImportVersionResponse, pb.MergeVersionsResponse
)
_PROVENANCE = {
    values.Provenance.TRAINED: pb.PROVENANCE_TRAINED,
    values.Provenance.DECLARED: pb.PROVENANCE_DECLARED,
}
_STATES = {
    State.LOADING: pb.RESIDENCY_STATE_LOADING,
    State.RESIDENT: pb.RESIDENCY_STATE_RESIDENT,
    State.DRAINING: pb.RESIDENCY_STATE_DRAINING,
}


def version_message(version: values.AdapterVersion) -> pb.AdapterVersion:
    lineage = pb.Lineage(
        job=version.lineage.job or "",
        data_digest=version.lineage.data_digest or "",
        code_version=version.lineage.code_version or "",
        seed=version.lineage.seed,
        parents=[pb.Parent(digest=one.digest, weight=one.weight) for one in version.lineage.parents],
    )
    return pb.AdapterVersion(
        name=f"adapters/{version.adapter}/versions/{version.number}",
        adapter=version.adapter,
        number=version.number,
        digest=version.digest,
        base=version.base.name,
        base_digest=version.base.digest,
        form=form_message(version.form),
        rank=version.rank,
        alpha=version.alpha,
        target_modules=version.target_modules,
        num_virtual_tokens=version.num_virtual_tokens,
        num_labels=version.num_labels,
        files=[pb.AdapterFile(name=one.name, size_bytes=one.size_bytes, sha256=one.sha256) for one in version.files],
        size_bytes=version.size_bytes,
        provenance=_PROVENANCE[version.provenance],
        lineage=lineage,
        create_time=_timestamp(version.create_time),
    )


def alias_message(alias: values.Alias, version_number: int) -> pb.Alias:
    return pb.Alias(
        name=f"adapters/{alias.adapter}/aliases/{alias.name}",
        adapter=alias.adapter,
        alias=alias.name,
        version_digest=alias.version_digest,
        version_number=version_number,
        weight_percent=alias.weight_percent,
        etag=alias.etag,
        update_time=_timestamp(alias.update_time),
    )


def moved_message(response: _Moved, alias: values.Alias, seconds: float | None, version_number: int) -> _Moved:
    """`response`, with where the alias points now and how long the version's load took."""
    response.alias.CopyFrom(alias_message(alias, version_number))
    if seconds is not None:
        response.load_time.FromMicroseconds(round(seconds * 1e6))
    return response


def adapter_message(adapter: values.Adapter, aliases: list[pb.Alias], num_versions: int) -> pb.Adapter:
    return pb.Adapter(
        name=f"adapters/{adapter.name}",
        adapter=adapter.name,
        create_time=_timestamp(adapter.create_time),
        aliases=aliases,
        num_versions=num_versions,
    )


def record_message(record: Record) -> pb.Record:
    body = Struct()
    body.update(json.loads(json.dumps(record.body)))
    return pb.Record(kind=record.kind, body=body, create_time=_timestamp(record.create_time))


def resident_message(resident: Resident) -> pb.ResidentVersion:
    return pb.ResidentVersion(
        digest=resident.digest,
        state=_STATES[resident.state],
        num_leases=resident.num_leases,
        pinned=resident.pinned,
        engine_id=resident.engine_id,
    )


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
