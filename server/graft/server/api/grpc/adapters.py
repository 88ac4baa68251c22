"""`AdapterService`: each call is one verb of the management."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from graft.adapters.adapter import Adapter
from graft.adapters.names import check_name
from graft.adapters.store.store import BlobStore
from graft.server.api.grpc.adapter_messages import (
    adapter_message,
    alias_message,
    moved_message,
    record_message,
    resident_message,
    version_message,
)
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import begin, declared, request_id_of
from graft.server.management import Management
from graft.server.registry.accepted import Accepted, Permissions
from graft.server.registry.accepting import AdapterUploads
from graft.server.registry.collection import Collection
from graft.server.registry.replays import Replays
from graft.server.registry.sums import Sums
from graft.server.runtime.tenant import check_may_point, check_own_adapter, current_tenant
from graft.server.runtime.violations import Violations
from graft.v1 import adapter_pb2 as pb
from graft.v1 import adapter_pb2_grpc

_T = TypeVar("_T")
_Published = TypeVar("_Published", pb.UploadVersionResponse, pb.ImportVersionResponse, pb.MergeVersionsResponse)
_MAX_PARTS = 16
_CHUNK_BYTES = 1 << 20
_MAX_WEIGHT = 1000.0


class AdapterServicer(adapter_pb2_grpc.AdapterServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(
        self,
        management: Management,
        uploads: AdapterUploads,
        sums: Sums,
        collection: Collection,
        store: BlobStore,
    ) -> None:
        self._management = management
        self._uploads = uploads
        self._sums = sums
        self._collection = collection
        self._store = store
        self._replays = Replays()

    async def UploadVersion(
        self, request_iterator: AsyncIterator[pb.UploadVersionRequest], context: Context
    ) -> pb.UploadVersionResponse:
        first, chunks = await begin(request_iterator)
        header = first.header
        _check_writes(header)
        accepted = await self._uploads.upload(
            tenant=current_tenant(),
            adapter=header.adapter,
            files=declared(header),
            chunks=chunks,
            permissions=_permissions(header),
            request_id=request_id_of(header),
            template_digest=header.chat_template_digest or None,
            take_back=self._management.withdraw if header.alias else None,
        )
        return await self._published(accepted, header.alias, pb.UploadVersionResponse())

    async def ImportVersion(self, request: pb.ImportVersionRequest, context: Context) -> pb.ImportVersionResponse:
        _require(request, "adapter", "path")
        _check_writes(request)
        accepted = await self._uploads.take_folder(
            tenant=current_tenant(),
            adapter=request.adapter,
            folder=Path(request.path),
            permissions=_permissions(request),
            request_id=request_id_of(request),
            take_back=self._management.withdraw if request.alias else None,
        )
        return await self._published(accepted, request.alias, pb.ImportVersionResponse())

    async def MergeVersions(self, request: pb.MergeVersionsRequest, context: Context) -> pb.MergeVersionsResponse:
        _require(request, "adapter")
        _check_writes(request)
        _check_parts(request)
        parts = [
            (
                await self._management.find_version(
                    tenant=current_tenant(), adapter=part.adapter, version=part.version
                ),
                part.weight,
            )
            for part in request.parts
        ]
        accepted = await self._sums.add(
            tenant=current_tenant(),
            adapter=request.adapter,
            parts=parts,
            other_form=request.allow_other_quantization,
            request_id=request_id_of(request),
            take_back=self._management.withdraw if request.alias else None,
        )
        return await self._published(accepted, request.alias, pb.MergeVersionsResponse())

    async def GetAdapter(self, request: pb.GetAdapterRequest, context: Context) -> pb.GetAdapterResponse:
        _require(request, "adapter")
        found = await self._management.get_adapter(tenant=current_tenant(), adapter=request.adapter)
        return pb.GetAdapterResponse(adapter=self._adapter(found))

    async def ListAdapters(self, request: pb.ListAdaptersRequest, context: Context) -> pb.ListAdaptersResponse:
        page = await self._management.adapters(
            tenant=current_tenant(), page_size=request.page_size, page_token=request.page_token
        )
        # Beside the event loop: a page may be of a thousand adapters.
        adapters = await asyncio.to_thread(lambda: list(map(self._adapter, page.items)))
        return pb.ListAdaptersResponse(adapters=adapters, next_page_token=page.next_page_token or "")

    async def DeleteAdapter(self, request: pb.DeleteAdapterRequest, context: Context) -> pb.DeleteAdapterResponse:
        _require(request, "adapter")
        await self._management.delete_adapter(
            tenant=current_tenant(), adapter=request.adapter, force=request.force, request_id=request_id_of(request)
        )
        return pb.DeleteAdapterResponse()

    async def GetVersion(self, request: pb.GetVersionRequest, context: Context) -> pb.GetVersionResponse:
        _require(request, "adapter", "version")
        version, records = await self._management.get_version(
            tenant=current_tenant(), adapter=request.adapter, version=request.version
        )
        return pb.GetVersionResponse(version=version_message(version), records=map(record_message, records))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        _require(request, "adapter")
        page = await self._management.versions(
            tenant=current_tenant(),
            adapter=request.adapter,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        versions = await asyncio.to_thread(lambda: list(map(version_message, page.items)))
        return pb.ListVersionsResponse(versions=versions, next_page_token=page.next_page_token or "")

    async def DownloadVersion(
        self, request: pb.DownloadVersionRequest, context: Context
    ) -> AsyncIterator[pb.DownloadVersionResponse]:
        _require(request, "adapter", "version")
        version = await self._management.find_version(
            tenant=current_tenant(), adapter=request.adapter, version=request.version
        )
        yield pb.DownloadVersionResponse(version=version_message(version))
        for file in version.files:
            with await asyncio.to_thread(self._store.open, file, f"{version.adapter}@{version.number}") as content:
                while data := await asyncio.to_thread(content.read, _CHUNK_BYTES):
                    yield pb.DownloadVersionResponse(chunk=pb.UploadChunk(file=file.name, data=data))

    async def DeleteVersion(self, request: pb.DeleteVersionRequest, context: Context) -> pb.DeleteVersionResponse:
        _require(request, "adapter", "version")
        check_own_adapter(request.adapter)
        await self._management.delete_version(
            tenant=current_tenant(),
            adapter=request.adapter,
            version=request.version,
            request_id=request_id_of(request),
        )
        return pb.DeleteVersionResponse()

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.SetAliasResponse:
        _require(request, "adapter", "alias", "version")
        check_may_point(request.adapter)
        alias, seconds, number = await self._management.set_alias(
            tenant=current_tenant(),
            adapter=request.adapter,
            alias=request.alias,
            version=request.version,
            weight_percent=request.weight_percent if request.HasField("weight_percent") else None,
            expected_etag=request.etag if request.HasField("etag") else None,
            request_id=request_id_of(request),
        )
        return moved_message(pb.SetAliasResponse(), alias, seconds, number)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.DeleteAliasResponse:
        _require(request, "adapter", "alias")
        await self._management.delete_alias(
            tenant=current_tenant(),
            adapter=request.adapter,
            alias=request.alias,
            request_id=request_id_of(request),
        )
        return pb.DeleteAliasResponse()

    async def ListResidency(self, request: pb.ListResidencyRequest, context: Context) -> pb.ListResidencyResponse:
        versions = map(resident_message, self._management.residency())
        return pb.ListResidencyResponse(versions=versions, num_slots=self._management.num_slots)

    async def SetPin(self, request: pb.SetPinRequest, context: Context) -> pb.SetPinResponse:
        _require(request, "adapter", "version")
        resident = await self._once(
            request,
            lambda: self._management.set_pin(
                tenant=current_tenant(), adapter=request.adapter, version=request.version, pinned=request.pinned
            ),
        )
        return pb.SetPinResponse(version=resident_message(resident))

    async def PrefetchVersion(self, request: pb.PrefetchVersionRequest, context: Context) -> pb.PrefetchVersionResponse:
        _require(request, "adapter", "version")
        resident = await self._once(
            request,
            lambda: self._management.prefetch(
                tenant=current_tenant(), adapter=request.adapter, version=request.version
            ),
        )
        return pb.PrefetchVersionResponse(resident=resident)

    async def CollectFiles(self, request: pb.CollectFilesRequest, context: Context) -> pb.CollectFilesResponse:
        done = await self._once(request, self._collection.collect)
        return pb.CollectFilesResponse(num_deleted=done.num_deleted, freed_bytes=done.freed_bytes)

    async def _once(self, request: Any, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What the catalog does not record is remembered here."""
        call = type(request)()
        call.CopyFrom(request)
        call.ClearField("request_id")
        return await self._replays.once(request_id_of(request), call, work, tenant=current_tenant())

    async def _published(self, accepted: Accepted, alias: str, response: _Published) -> _Published:
        response.version.CopyFrom(version_message(accepted.version))
        response.notices.extend(accepted.notices)
        if alias:
            moved, seconds, number = await self._management.publish(accepted, alias=alias)
            moved_message(response, moved, seconds, number)
        return response

    def _adapter(self, adapter: Adapter) -> pb.Adapter:
        aliases = self._management.aliases_of(adapter.tenant, adapter.name)
        return adapter_message(
            adapter,
            [alias_message(alias, version.number) for alias, version in aliases],
            len(self._management.versions_of(adapter.tenant, adapter.name)),
        )


def _permissions(request: pb.UploadHeader | pb.ImportVersionRequest) -> Permissions:
    return Permissions(noop=request.allow_noop, other_form=request.allow_other_quantization)


def _check_writes(request: pb.UploadHeader | pb.ImportVersionRequest | pb.MergeVersionsRequest) -> None:
    check_own_adapter(request.adapter)
    check_new_alias(request.alias)
    if request.alias:
        check_may_point(request.adapter)


def check_new_alias(alias: str) -> None:
    """Learn that an alias cannot be called so before the files have come. Raises `InvalidReference`."""
    if alias:
        check_name(alias, what="alias")


def _check_parts(request: pb.MergeVersionsRequest) -> None:
    violations = Violations()
    if not 2 <= len(request.parts) <= _MAX_PARTS:
        violations.add("parts", f"{len(request.parts)} versions were named; from 2 to {_MAX_PARTS} add up")
    for index, part in enumerate(request.parts):
        for field in ("adapter", "version"):
            if not getattr(part, field):
                violations.add(f"parts[{index}].{field}", "is empty")
        if not 0 < abs(part.weight) <= _MAX_WEIGHT:
            problem = f"is {part.weight:g}: it must be a number other than 0, of at most {_MAX_WEIGHT:g} in magnitude"
            violations.add(f"parts[{index}].weight", problem)
    violations.raise_any()


def _require(request: Any, *fields: str) -> None:
    violations = Violations()
    for field in fields:
        if not getattr(request, field):
            violations.add(field, "is empty")
    violations.raise_any()
