"""The asyncio client: the same calls as `Client`, awaited."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio
from google.protobuf.message import Message

from graft.client import channel, errors, generation, operation, prompt_operation, prompt_run, request, upload
from graft.v1 import adapter_pb2, base_pb2, inference_pb2, prompt_pb2, server_pb2

Out = TypeVar("Out")
Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class AsyncClient:
    """Calls a Graft server; a context manager. Every call may raise `GraftClientError`.

    `timeout` bounds each call, in seconds; most calls take another of their own. `token` says to the server who calls;
    without `credentials` it goes over the wire in the clear.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = 120.0,
        token: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Raises ValueError for a token that is none."""
        self.target = target
        self.timeout = timeout
        self._metadata = channel.metadata(token)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=channel.options())
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=channel.options())
        self._uploads = channel.blocking(target, credentials)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; running calls are cancelled."""
        self._uploads.close()
        await self._channel.close()

    # Text

    def stream(
        self,
        prompt: request.PromptLike,
        *,
        model: str = "",
        num_choices: int = 1,
        logprobs: int | None = None,
        timeout: float | None = None,
        **sampling: Unpack[request.SamplingOptions],
    ) -> AsyncGenerator[generation.Chunk, None]:
        """Chunks as they are generated. Closing the iterator cancels the request; an incomplete stream raises."""
        message = request.generate(prompt, model=model, num_choices=num_choices, logprobs=logprobs, options=sampling)
        return self._stream(message, num_choices, timeout)

    async def generate(
        self,
        prompt: request.PromptLike,
        *,
        model: str = "",
        num_choices: int = 1,
        logprobs: int | None = None,
        timeout: float | None = None,
        **sampling: Unpack[request.SamplingOptions],
    ) -> generation.Generation:
        """The whole answer. `model` is the base (empty), `<adapter>`, `<adapter>:<alias>` or `<adapter>@<version>`."""
        chunks = self.stream(
            prompt, model=model, num_choices=num_choices, logprobs=logprobs, timeout=timeout, **sampling
        )
        return generation.collect([chunk async for chunk in chunks], num_choices)

    async def score(
        self,
        prompt: request.PromptLike,
        continuations: request.Continuations,
        *,
        model: str = "",
        timeout: float | None = None,
    ) -> inference_pb2.ScoreResponse:
        """Log-probabilities of each continuation (texts, or lists of token ids) after the prompt."""
        return await self._call(operation.score(prompt, continuations, model), timeout)

    async def tokenize(self, prompt: request.PromptLike) -> inference_pb2.TokenizeResponse:
        """Token ids of a text or of a rendered chat."""
        return await self._call(operation.tokenize(prompt))

    # Adapters

    async def push_adapter(
        self,
        folder: str | Path,
        *,
        name: str,
        alias: str | None = None,
        allow_noop: bool = False,
        allow_other_quantization: bool = False,
        timeout: float | None = None,
    ) -> operation.Push:
        """Upload a PEFT folder as a new version and move `alias` to it; of one that is refused nothing is kept.

        Raises OSError where files are missing.
        """
        messages = await asyncio.to_thread(
            upload.upload_requests,
            Path(folder),
            name=name,
            alias=alias or "",
            allow_noop=allow_noop,
            allow_other_quantization=allow_other_quantization,
        )
        response = await self._upload(operation.UPLOAD_VERSION, messages, adapter_pb2.UploadVersionResponse, timeout)
        push = operation.pushed(response)
        if alias and push.alias is None:  # an earlier server left that to its caller
            push = operation.moved(push, await self.set_alias(name, alias, push.version.digest, timeout=timeout))
        return push

    async def push_base(self, folder: str | Path, *, name: str, timeout: float = 3600.0) -> base_pb2.RegisteredBase:
        """Upload a Hugging Face folder: a server that starts on the same data serves it by this name.

        Raises OSError where files are missing.
        """
        messages = await asyncio.to_thread(upload.upload_base_requests, Path(folder), name=name)
        return (await self._upload(operation.UPLOAD_BASE, messages, base_pb2.UploadBaseResponse, timeout)).base

    async def bases(self) -> list[base_pb2.RegisteredBase]:
        """The bases that the server keeps."""
        return await self._call(operation.list_bases())

    async def import_adapter(
        self,
        path: str,
        *,
        name: str,
        alias: str | None = None,
        allow_noop: bool = False,
        allow_other_quantization: bool = False,
    ) -> operation.Push:
        """Like `push_adapter`, for a PEFT folder that lies on the server's own disk."""
        push = await self._call(operation.import_version(name, path, alias or "", allow_noop, allow_other_quantization))
        if alias and push.alias is None:  # an earlier server left that to its caller
            push = operation.moved(push, await self.set_alias(name, alias, push.version.digest))
        return push

    async def adapters(self) -> list[adapter_pb2.Adapter]:
        """All adapters."""
        return await self._pages(operation.list_adapters)

    async def get_adapter(self, adapter: str) -> adapter_pb2.Adapter:
        """One adapter with its aliases."""
        return await self._call(operation.get_adapter(adapter))

    async def versions(self, adapter: str) -> list[adapter_pb2.AdapterVersion]:
        """All versions of an adapter."""
        return await self._pages(lambda token: operation.list_versions(adapter, token))

    async def get_version(self, adapter: str, version: str | int) -> operation.VersionDetails:
        """A version by number, digest or at least 8 of its digits, with its records."""
        return await self._call(operation.get_version(adapter, version))

    async def set_alias(
        self,
        adapter: str,
        alias: str,
        version: str | int,
        *,
        weight_percent: int | None = None,
        etag: str | None = None,
        timeout: float | None = None,
    ) -> adapter_pb2.SetAliasResponse:
        """Move an alias: the hot swap. With `etag`, only while the alias is unchanged; with an empty one, only anew."""
        return await self._call(operation.set_alias(adapter, alias, version, weight_percent, etag), timeout)

    async def delete_adapter(self, adapter: str, *, force: bool = False) -> None:
        """Delete an adapter; with `force` its aliases and versions, too, else it must have none any more."""
        await self._call(operation.delete_adapter(adapter, force))

    async def delete_version(self, adapter: str, version: str | int) -> None:
        """Delete a version that no alias points to."""
        await self._call(operation.delete_version(adapter, version))

    async def delete_alias(self, adapter: str, alias: str) -> None:
        """Delete an alias; its version stays."""
        await self._call(operation.delete_alias(adapter, alias))

    async def residency(self) -> adapter_pb2.ListResidencyResponse:
        """Which versions sit in engine slots."""
        return await self._call(operation.residency())

    async def pin(self, adapter: str, version: str | int, *, pinned: bool = True) -> adapter_pb2.ResidentVersion:
        """Keep a version in its slot, or let it go."""
        return await self._call(operation.set_pin(adapter, version, pinned))

    async def prefetch(self, adapter: str, version: str | int) -> bool:
        """Say that a version may be asked for soon; returns whether it is in a slot already."""
        return await self._call(operation.prefetch(adapter, version))

    async def collect_files(self) -> adapter_pb2.CollectFilesResponse:
        """Have the files deleted that no version has any more; those of the last hour stay."""
        return await self._call(operation.collect_files())

    # Prompts

    def stream_prompt(
        self,
        prompt: str = "",
        variables: Mapping[str, object] | None = None,
        *,
        program: prompt_operation.Program | None = None,
        documents: prompt_run.Documents = (),
        model: str = "",
        withhold_rationale: bool = False,
        timeout: float | None = None,
        **sampling: Unpack[request.SamplingOptions],
    ) -> AsyncGenerator[prompt_run.PromptChunk | prompt_run.PromptRun, None]:
        """Chunks of answer and rationale as they are generated, and the whole run in the end."""
        message = prompt_run.run(
            prompt,
            variables or {},
            program=program,
            documents=documents,
            model=model,
            withhold_rationale=withhold_rationale,
            options=sampling,
        )
        return self._run(message, timeout)

    async def run_prompt(
        self,
        prompt: str = "",
        variables: Mapping[str, object] | None = None,
        *,
        program: prompt_operation.Program | None = None,
        documents: prompt_run.Documents = (),
        model: str = "",
        withhold_rationale: bool = False,
        timeout: float | None = None,
        **sampling: Unpack[request.SamplingOptions],
    ) -> prompt_run.PromptRun:
        """Run a registered program (`<name>`, `<name>:<label>` or `<name>@<version>`), or the one that is given.

        `model` and the sampling options go before the program's own. `documents` are texts that the answer may cite.
        """
        stream = self.stream_prompt(
            prompt,
            variables,
            program=program,
            documents=documents,
            model=model,
            withhold_rationale=withhold_rationale,
            timeout=timeout,
            **sampling,
        )
        events = [one async for one in stream]
        return prompt_run.whole(events)

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

    # The server

    async def info(self, *, timeout: float | None = None) -> server_pb2.GetInfoResponse:
        """The server's base, form and limits."""
        return await self._call(operation.info(), timeout)

    async def drain(self, *, timeout: float = 60.0) -> int:
        """Let the server finish what it admitted and end; how many requests were unfinished at the timeout."""
        return await self._call(operation.drain(timeout), timeout + 10.0)

    async def wait_ready(self, *, timeout: float = 120.0) -> server_pb2.GetInfoResponse:
        """Wait until the server answers and is ready. Raises `Unavailable` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(errors.Unavailable, errors.DeadlineExceeded):
                info = await self.info(timeout=min(5.0, timeout))
                if info.ready:
                    return info
            if time.monotonic() > deadline:
                raise errors.not_ready(self.target, timeout)
            await asyncio.sleep(0.2)

    # The wire

    def _limit(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    async def _call(self, op: operation.Operation[Out], timeout: float | None = None) -> Out:
        call = self._channel.unary_unary(
            op.path, request_serializer=type(op.request).SerializeToString, response_deserializer=op.response.FromString
        )
        try:
            return op.read(await call(op.request, timeout=self._limit(timeout), metadata=self._metadata))
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None

    async def _pages(self, page: Callable[[str], operation.Operation[tuple[list[Item], str]]]) -> list[Item]:
        items, token = await self._call(page(""))
        while token:
            more, token = await self._call(page(token))
            items += more
        return items

    async def _upload(
        self, method: str, messages: Iterator[Message], response: type[Reply], timeout: float | None
    ) -> Reply:
        """Send from a thread of gRPC's.

        On the loop, files' bytes would be read between its callers' tokens, and gRPC's asyncio API forgets what a
        server refuses while it is still sending (grpc/grpc#36066).
        """
        call = self._uploads.stream_unary(
            method, request_serializer=upload.to_bytes, response_deserializer=response.FromString
        ).future(messages, timeout=self._limit(timeout), metadata=self._metadata)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(ended.set)

        call.add_done_callback(end)
        try:
            await ended.wait()
            answered: Reply = call.result()
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            call.cancel()
        return answered

    async def _stream(
        self, message: inference_pb2.GenerateRequest, num_choices: int, timeout: float | None
    ) -> AsyncGenerator[generation.Chunk, None]:
        reader = generation.ChunkReader(num_choices)
        responses = self._responses(operation.GENERATE, message, inference_pb2.GenerateResponse, timeout)
        async with contextlib.aclosing(responses):
            async for response in responses:
                if chunk := reader.read(response):
                    yield chunk
        reader.close()

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

    async def _responses(
        self, method: str, message: Message, response: type[Reply], timeout: float | None
    ) -> AsyncGenerator[Reply, None]:
        open_stream = self._channel.unary_stream(
            method, request_serializer=type(message).SerializeToString, response_deserializer=response.FromString
        )
        call = open_stream(message, timeout=self._limit(timeout), metadata=self._metadata)
        try:
            async for one in call:
                yield one
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from None
        finally:
            call.cancel()
