"""`BaseService`: bases to be served by a server that starts on them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from graft.adapters.adapter import BaseIdentity
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import begin, declared, request_id_of
from graft.server.registry.bases import BaseUploads
from graft.server.runtime.tenant import current_tenant
from graft.v1 import base_pb2 as pb
from graft.v1 import base_pb2_grpc


class BaseServicer(base_pb2_grpc.BaseServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, uploads: BaseUploads) -> None:
        self._uploads = uploads

    async def UploadBase(
        self, request_iterator: AsyncIterator[pb.UploadBaseRequest], context: Context
    ) -> pb.UploadBaseResponse:
        first, chunks = await begin(request_iterator)
        header = first.header
        base = await self._uploads.upload(
            name=header.name,
            files=declared(header),
            chunks=chunks,
            tenant=current_tenant(),
            request_id=request_id_of(header),
        )
        return pb.UploadBaseResponse(base=self._message(base.identity))

    async def ListBases(self, request: pb.ListBasesRequest, context: Context) -> pb.ListBasesResponse:
        return pb.ListBasesResponse(bases=[self._message(one.identity) for one in await self._uploads.bases()])

    def _message(self, base: BaseIdentity) -> pb.RegisteredBase:
        return pb.RegisteredBase(
            name=base.name,
            digest=base.digest,
            weights_digest=base.weights_digest,
            tokenizer_digest=base.tokenizer_digest,
            chat_template_digest=base.chat_template_digest or "",
            config_digest=base.config_digest or "",
            served=self._uploads.is_served(base.digest),
        )
