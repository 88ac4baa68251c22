"""The asyncio client's calls of prompt programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TypeVar, Unpack

from google.protobuf.message import Message

from graft.client import operation, prompt_operation, prompt_run
from graft.client.async_wire import AsyncWire
from graft.v1 import prompt_pb2

Out = TypeVar("Out")
Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class AsyncPromptCalls(AsyncWire):
    """Programs registered, labelled, previewed and run."""

    def stream_prompt(
        self,
        prompt: str = "",
        variables: Mapping[str, object] | None = None,
        **options: Unpack[prompt_run.RunOptions],
    ) -> AsyncGenerator[prompt_run.PromptChunk | prompt_run.PromptRun, None]:
        """Chunks of answer and rationale as they are generated, and the whole run in the end."""
        return self._run(prompt_run.run(prompt, variables or {}, options), options.get("timeout"))

    async def run_prompt(
        self,
        prompt: str = "",
        variables: Mapping[str, object] | None = None,
        **options: Unpack[prompt_run.RunOptions],
    ) -> prompt_run.PromptRun:
        """Run a registered program (`<name>`, `<name>:<label>` or `<name>@<version>`), or the one that is given.

        `model` and the sampling options go before the program's own. `documents` are texts that the answer may cite.
        """
        stream = self.stream_prompt(prompt, variables, **options)
        return prompt_run.whole([event async for event in stream])

    async def preview_prompt(
        self,
        prompt: str = "",
        variables: Mapping[str, object] | None = None,
        *,
        program: prompt_operation.Program | None = None,
        documents: prompt_run.Documents = (),
    ) -> prompt_pb2.PreviewPromptResponse:
        """The prompt as the model would read it, with token counts; nothing is generated."""
        return await self._call(prompt_run.preview(prompt, variables or {}, program=program, documents=documents))

    async def push_prompt(
        self,
        name: str,
        program: prompt_operation.Program,
        *,
        labels: Sequence[str] = (),
        tags: Sequence[str] = (),
        commit_message: str = "",
    ) -> prompt_pb2.PromptVersion:
        """Register a version of a prompt program, and point `labels` at it; the same content is the same version."""
        return await self._call(prompt_operation.create_version(name, program, tags, commit_message, labels))

    async def get_prompt(self, name: str, version: str | int = "") -> prompt_pb2.PromptVersion:
        """A version by number, digest (8 of its digits at least) or label; by default what `production` points at."""
        return await self._call(prompt_operation.get_version(name, version))

    async def prompts(self, *, prefix: str = "", label: str = "", tag: str = "") -> list[prompt_pb2.PromptSummary]:
        """All prompts whose names begin so, that have the label, whose latest version has the tag."""
        return await self._pages(lambda token: prompt_operation.list_prompts(prefix, label, tag, token))

    async def prompt_versions(self, name: str) -> list[prompt_pb2.PromptVersion]:
        """All versions of a prompt, without their programs."""
        return await self._pages(lambda token: prompt_operation.list_versions(name, token))

    async def set_prompt_label(
        self, name: str, label: str, version: str | int, *, etag: str | None = None
    ) -> prompt_pb2.PromptLabel:
        """Move a label. With `etag`, only while it is unchanged; with an empty one, only where there is none yet."""
        return await self._call(prompt_operation.set_label(name, label, version, etag))

    async def delete_prompt_label(self, name: str, label: str) -> None:
        """Delete a label; its version stays."""
        await self._call(prompt_operation.delete_label(name, label))

    async def delete_prompt_version(self, name: str, version: str | int) -> None:
        """Delete a version that no label points to."""
        await self._call(prompt_operation.delete_version(name, version))

    async def delete_prompt(self, name: str, *, force: bool = False) -> None:
        """Delete a prompt; its labels and versions go with it, which `force` must say."""
        await self._call(prompt_operation.delete_prompt(name, force))

    async def _run(
        self, message: prompt_pb2.RunPromptRequest, timeout: float | None
    ) -> AsyncGenerator[prompt_run.PromptChunk | prompt_run.PromptRun, None]:
        reader = prompt_run.RunReader()
        responses = self._responses(operation.RUN_PROMPT, message, prompt_pb2.RunPromptResponse, timeout)
        async with contextlib.aclosing(responses):
            async for response in responses:
                if chunk := reader.read(response):
                    yield chunk
        yield reader.whole()
