"""`PromptService`: each call is one verb of `Prompts`; previews and runs are handed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from graft.server.api.grpc.prompts.messages import label_message, prompt_version_message, summary_message
from graft.server.api.grpc.types import Context
from graft.server.api.grpc.uploads import request_id_of
from graft.server.prompting.catalog.draft import read_draft
from graft.server.prompting.catalog.prompts import Prompts
from graft.server.prompting.program.names import check_prompt_name
from graft.server.prompting.program.references import PromptReference, read_selector
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations
from graft.v1 import prompt_pb2 as pb
from graft.v1 import prompt_pb2_grpc

Preview = Callable[[pb.PreviewPromptRequest, Context], Awaitable[pb.PreviewPromptResponse]]
Run = Callable[[pb.RunPromptRequest, Context], AsyncGenerator[pb.RunPromptResponse, None]]


class PromptServicer(prompt_pb2_grpc.PromptServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, prompts: Prompts, *, preview: Preview | None = None, run: Run | None = None) -> None:
        self._prompts = prompts
        self._preview = preview
        self._run = run

    async def CreatePromptVersion(
        self, request: pb.CreatePromptVersionRequest, context: Context
    ) -> pb.CreatePromptVersionResponse:
        # Beside the event loop: a program may have a megabyte.
        draft = await asyncio.to_thread(
            read_draft,
            tenant=current_tenant(),
            prompt=request.prompt,
            program=request.program,
            tags=request.tags,
            commit_message=request.commit_message,
            labels=request.labels,
        )
        done = await self._prompts.register(draft, request_id=request_id_of(request))
        labels = self._labels_of(request.prompt, done.version.number)
        message = prompt_version_message(done.version, labels, notices=done.notices)
        return pb.CreatePromptVersionResponse(version=message)

    async def GetPromptVersion(
        self, request: pb.GetPromptVersionRequest, context: Context
    ) -> pb.GetPromptVersionResponse:
        _require(request, "prompt")
        reference = PromptReference(name=check_prompt_name(request.prompt), selector=read_selector(request.version))
        version = self._prompts.resolve(reference, tenant=current_tenant()).version
        notices = await self._prompts.notices(version)
        message = prompt_version_message(version, self._labels_of(request.prompt, version.number), notices=notices)
        return pb.GetPromptVersionResponse(version=message)

    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:
        page = self._prompts.page(
            current_tenant(),
            prefix=request.prefix,
            label=request.label,
            tag=request.tag,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        prompts = await asyncio.to_thread(lambda: list(map(summary_message, page.items)))
        return pb.ListPromptsResponse(prompts=prompts, next_page_token=page.next_page_token or "")

    async def ListPromptVersions(
        self, request: pb.ListPromptVersionsRequest, context: Context
    ) -> pb.ListPromptVersionsResponse:
        _require(request, "prompt")
        tenant, name = current_tenant(), check_prompt_name(request.prompt)
        page = self._prompts.versions_page(tenant, name, page_size=request.page_size, page_token=request.page_token)
        entry = self._prompts.current.get(tenant, name)
        versions = [prompt_version_message(one, entry.labels_of(one.number), whole=False) for one in page.items]
        return pb.ListPromptVersionsResponse(versions=versions, next_page_token=page.next_page_token or "")

    async def SetPromptLabel(self, request: pb.SetPromptLabelRequest, context: Context) -> pb.SetPromptLabelResponse:
        _require(request, "prompt", "label", "version")
        moved, version = await self._prompts.set_label(
            tenant=current_tenant(),
            prompt=request.prompt,
            label=request.label,
            version=request.version,
            expected_etag=request.etag if request.HasField("etag") else None,
            request_id=request_id_of(request),
        )
        return pb.SetPromptLabelResponse(label=label_message(moved, version))

    async def DeletePromptLabel(
        self, request: pb.DeletePromptLabelRequest, context: Context
    ) -> pb.DeletePromptLabelResponse:
        _require(request, "prompt", "label")
        await self._prompts.delete_label(
            tenant=current_tenant(), prompt=request.prompt, label=request.label, request_id=request_id_of(request)
        )
        return pb.DeletePromptLabelResponse()

    async def DeletePromptVersion(
        self, request: pb.DeletePromptVersionRequest, context: Context
    ) -> pb.DeletePromptVersionResponse:
        _require(request, "prompt", "version")
        await self._prompts.delete_version(
            tenant=current_tenant(), prompt=request.prompt, version=request.version, request_id=request_id_of(request)
        )
        return pb.DeletePromptVersionResponse()

    async def DeletePrompt(self, request: pb.DeletePromptRequest, context: Context) -> pb.DeletePromptResponse:
        _require(request, "prompt")
        await self._prompts.delete_prompt(
            tenant=current_tenant(), prompt=request.prompt, force=request.force, request_id=request_id_of(request)
        )
        return pb.DeletePromptResponse()

    async def PreviewPrompt(self, request: pb.PreviewPromptRequest, context: Context) -> pb.PreviewPromptResponse:
        if self._preview is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server previews no prompts")
        return await self._preview(request, context)

    async def RunPrompt(self, request: pb.RunPromptRequest, context: Context) -> AsyncIterator[pb.RunPromptResponse]:
        if self._run is None:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server runs no prompts")
        async with aclosing(self._run(request, context)) as messages:
            async for message in messages:
                yield message

    def _labels_of(self, prompt: str, number: int) -> tuple[str, ...]:
        entry = self._prompts.current.entries.get((current_tenant(), prompt))
        return entry.labels_of(number) if entry is not None and number in entry.versions else ()


def _require(request: Any, *fields: str) -> None:
    violations = Violations()
    for field in fields:
        if not getattr(request, field):
            violations.add(field, "is empty")
    violations.raise_any()
