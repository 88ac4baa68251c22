"""`BaseService`: bases to be served by a server that starts on them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from graft.adapters.base import Base
from graft.adapters.catalog import BaseRecord
from graft.server.api.grpc_adapters import upload_chunks
from graft.server.api.grpc_types import Context
from graft.server.api.limits import Violations
from graft.server.base_intake import BaseIntake
from graft.server.intake import DeclaredFile
from graft.v1 import base_pb2 as pb
from graft.v1 import base_pb2_grpc


class BaseServicer(base_pb2_grpc.BaseServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, intake: BaseIntake) -> None:
        self._intake = intake

    async def UploadBase(
        self, request_iterator: AsyncIterator[pb.UploadBaseRequest], context: Context
    ) -> pb.UploadBaseResponse:
        parts = aiter(request_iterator)
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "header":
            violations = Violations()
            violations.add("header", "is missing: the first message of an upload is its header")
            violations.raise_any()
            raise AssertionError
        header = first.header
        base = await self._intake.upload(
            name=header.name,
            files=[DeclaredFile(name=one.name, size_bytes=one.size_bytes, sha256=one.sha256) for one in header.files],
            chunks=upload_chunks(parts),
        )
        return pb.UploadBaseResponse(base=self._message(base))

    async def ListBases(self, request: pb.ListBasesRequest, context: Context) -> pb.ListBasesResponse:
        return pb.ListBasesResponse(bases=[self._message(one) for one in await self._intake.bases()])

    def _message(self, base: Base | BaseRecord) -> pb.RegisteredBase:
        return pb.RegisteredBase(
            name=base.name,
            digest=base.digest,
            weights_digest=base.weights_digest,
            tokenizer_digest=base.tokenizer_digest,
            chat_template_digest=base.chat_template_digest or "",
            served=self._intake.is_served(base.digest),
        )
