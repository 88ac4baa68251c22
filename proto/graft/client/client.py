"""The synchronous client."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TypeVar, Unpack

from google.protobuf.message import Message

from graft.client import errors, generation, grading, operation, request, upload
from graft.client.releases.calls import ReleaseCalls
from graft.v1 import adapter_pb2, base_pb2, grading_pb2, inference_pb2, server_pb2

Out = TypeVar("Out")
Item = TypeVar("Item")
Reply = TypeVar("Reply", bound=Message)


class Client(ReleaseCalls):
    """Calls a Graft server; a context manager. Every call may raise `GraftClientError`.

    `timeout` bounds each call, in seconds; most calls take another of their own. `token` says to the server who calls;
    without `credentials` it goes over the wire in the clear.
    """

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
    ) -> Generator[generation.Chunk, None, None]:
        """Chunks as they are generated. Closing the iterator cancels the request; an incomplete stream raises."""
        message = request.generate(prompt, model=model, num_choices=num_choices, logprobs=logprobs, options=sampling)
        return self._stream(message, num_choices, timeout)

    def generate(
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
        return generation.collect(chunks, num_choices)

    def score(
        self,
        prompt: request.PromptLike,
        continuations: request.Continuations,
        *,
        model: str = "",
        timeout: float | None = None,
    ) -> inference_pb2.ScoreResponse:
        """Log-probabilities of each continuation (texts, or lists of token ids) after the prompt."""
        return self._call(operation.score(prompt, continuations, model), timeout)

    def classify(
        self,
        inputs: request.Inputs,
        *,
        model: str,
        truncate_prompt_tokens: int | None = None,
        timeout: float | None = None,
    ) -> inference_pb2.ClassifyResponse:
        """What the head of an adapter says of each input: a text, a pair of texts, or token ids.

        Inputs of more than `truncate_prompt_tokens` lose their last tokens.
        """
        return self._call(operation.classify(inputs, model, truncate_prompt_tokens), timeout)

    def tokenize(self, prompt: request.PromptLike) -> inference_pb2.TokenizeResponse:
        """Token ids of a text or of a rendered chat."""
        return self._call(operation.tokenize(prompt))

    def grade(
        self, grader: grading.Grader, observations: Sequence[grading.Observation], *, timeout: float | None = None
    ) -> list[grading_pb2.Grade]:
        """What each answer is worth, in their order; a grader that fails says so in its grade."""
        return self._call(grading.grade(grader, observations), timeout)

    # Adapters

    def push_adapter(
        self,
        folder: str | Path | upload.InMemory,
        *,
        name: str,
        alias: str | None = None,
        allow_noop: bool = False,
        allow_other_quantization: bool = False,
        timeout: float | None = None,
    ) -> operation.Push:
        """Upload a PEFT folder as a new version and move `alias` to it; of one that is refused nothing is kept.

        In place of the folder its files may be given by name, as bytes in memory.
        Raises OSError where files are missing, ValueError for files in memory that are no adapter's.
        """
        messages = upload.upload_requests(
            Path(folder) if isinstance(folder, str) else folder,
            name=name,
            alias=alias or "",
            allow_noop=allow_noop,
            allow_other_quantization=allow_other_quantization,
        )
        response = self._upload(operation.UPLOAD_VERSION, messages, adapter_pb2.UploadVersionResponse, timeout)
        push = operation.pushed(response)
        if alias and push.alias is None:  # an earlier server left that to its caller
            push = operation.moved(push, self.set_alias(name, alias, push.version.digest, timeout=timeout))
        return push

    def push_base(self, folder: str | Path, *, name: str, timeout: float = 3600.0) -> base_pb2.RegisteredBase:
        """Upload a Hugging Face folder: a server that starts on the same data serves it by this name.

        Raises OSError where files are missing.
        """
        messages = upload.upload_base_requests(Path(folder), name=name)
        return self._upload(operation.UPLOAD_BASE, messages, base_pb2.UploadBaseResponse, timeout).base

    def bases(self) -> list[base_pb2.RegisteredBase]:
        """The bases that the server keeps."""
        return self._call(operation.list_bases())

    def import_adapter(
        self,
        path: str,
        *,
        name: str,
        alias: str | None = None,
        allow_noop: bool = False,
        allow_other_quantization: bool = False,
    ) -> operation.Push:
        """Like `push_adapter`, for a PEFT folder that lies on the server's own disk."""
        push = self._call(operation.import_version(name, path, alias or "", allow_noop, allow_other_quantization))
        if alias and push.alias is None:  # an earlier server left that to its caller
            push = operation.moved(push, self.set_alias(name, alias, push.version.digest))
        return push

    def merge_adapters(
        self,
        parts: Sequence[operation.Part],
        *,
        name: str,
        alias: str | None = None,
        allow_other_quantization: bool = False,
        timeout: float | None = None,
    ) -> operation.Push:
        """Add versions up into a new one of the adapter `name`, exactly: the server computes it from its own files.

        A part is (adapter, version, weight); a version is a number, a digest or an alias.
        """
        merging = operation.merge_versions(name, parts, alias or "", allow_other_quantization)
        return self._call(merging, timeout)

    def adapters(self) -> list[adapter_pb2.Adapter]:
        """All adapters."""
        return self._pages(operation.list_adapters)

    def get_adapter(self, adapter: str) -> adapter_pb2.Adapter:
        """One adapter with its aliases."""
        return self._call(operation.get_adapter(adapter))

    def versions(self, adapter: str) -> list[adapter_pb2.AdapterVersion]:
        """All versions of an adapter."""
        return self._pages(lambda token: operation.list_versions(adapter, token))

    def get_version(self, adapter: str, version: str | int) -> operation.VersionDetails:
        """A version by number, digest or at least 8 of its digits, with its records."""
        return self._call(operation.get_version(adapter, version))

    def set_alias(
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
        return self._call(operation.set_alias(adapter, alias, version, weight_percent, etag), timeout)

    def delete_adapter(self, adapter: str, *, force: bool = False) -> None:
        """Delete an adapter; with `force` its aliases and versions, too, else it must have none any more."""
        self._call(operation.delete_adapter(adapter, force))

    def delete_version(self, adapter: str, version: str | int) -> None:
        """Delete a version that no alias points to."""
        self._call(operation.delete_version(adapter, version))

    def delete_alias(self, adapter: str, alias: str) -> None:
        """Delete an alias; its version stays."""
        self._call(operation.delete_alias(adapter, alias))

    def residency(self) -> adapter_pb2.ListResidencyResponse:
        """Which versions sit in engine slots."""
        return self._call(operation.residency())

    def pin(self, adapter: str, version: str | int, *, pinned: bool = True) -> adapter_pb2.ResidentVersion:
        """Keep a version in its slot, or let it go."""
        return self._call(operation.set_pin(adapter, version, pinned))

    def prefetch(self, adapter: str, version: str | int) -> bool:
        """Say that a version may be asked for soon; returns whether it is ready already."""
        return self._call(operation.prefetch(adapter, version))

    def collect_files(self) -> adapter_pb2.CollectFilesResponse:
        """Have the files deleted that no version has any more; those of the last hour stay."""
        return self._call(operation.collect_files())

    # The server

    def info(self, *, timeout: float | None = None) -> server_pb2.GetInfoResponse:
        """The server's base, form and limits."""
        return self._call(operation.info(), timeout)

    def drain(self, *, timeout: float = 60.0) -> int:
        """Let the server finish what it admitted and end; how many requests were unfinished at the timeout."""
        return self._call(operation.drain(timeout), timeout + 10.0)

    def wait_ready(self, *, timeout: float = 120.0) -> server_pb2.GetInfoResponse:
        """Wait until the server answers and is ready. Raises `Unavailable` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(errors.Unavailable, errors.DeadlineExceeded):
                info = self.info(timeout=min(5.0, timeout))
                if info.ready:
                    return info
            if time.monotonic() > deadline:
                raise errors.not_ready(self.target, timeout)
            time.sleep(0.2)

    def _stream(
        self, message: inference_pb2.GenerateRequest, num_choices: int, timeout: float | None
    ) -> Generator[generation.Chunk, None, None]:
        reader = generation.ChunkReader(num_choices)
        responses = self._responses(operation.GENERATE, message, inference_pb2.GenerateResponse, timeout)
        with contextlib.closing(responses):
            for response in responses:
                if chunk := reader.read(response):
                    yield chunk
        reader.close()
