"""The unary calls of `PromptService`, said once for both clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from graft.client.operation import Operation, new_request_id, nothing, unary
from graft.v1 import prompt_pb2 as pb

Program = str | Mapping[str, object]
"""A prompt program as JSON text, or as the object that it says."""
Out = TypeVar("Out")
Response = TypeVar("Response", bound=Message)


def _prompt(request: Message, response: type[Response], read: Callable[[Response], Out]) -> Operation[Out]:
    return unary("PromptService", request, response, read)


def create_version(
    name: str, program: Program, tags: Sequence[str], commit_message: str, labels: Sequence[str]
) -> Operation[pb.PromptVersion]:
    for what, texts in (("tags", tags), ("labels", labels)):
        if isinstance(texts, str):
            raise TypeError(f"{what} are a list of texts: put {texts!r} into one")
    message = pb.CreatePromptVersionRequest(
        prompt=name,
        program=program if isinstance(program, str) else json.dumps(program, ensure_ascii=False),
        tags=tags,
        commit_message=commit_message,
        labels=labels,
        request_id=new_request_id(),
    )
    return _prompt(message, pb.CreatePromptVersionResponse, lambda response: response.version)


def get_version(name: str, version: str | int) -> Operation[pb.PromptVersion]:
    message = pb.GetPromptVersionRequest(prompt=name, version=str(version))
    return _prompt(message, pb.GetPromptVersionResponse, lambda response: response.version)


def list_prompts(prefix: str, label: str, tag: str, page_token: str) -> Operation[tuple[list[pb.PromptSummary], str]]:
    return _prompt(
        pb.ListPromptsRequest(prefix=prefix, label=label, tag=tag, page_token=page_token),
        pb.ListPromptsResponse,
        lambda response: (list(response.prompts), response.next_page_token),
    )


def list_versions(name: str, page_token: str) -> Operation[tuple[list[pb.PromptVersion], str]]:
    return _prompt(
        pb.ListPromptVersionsRequest(prompt=name, page_token=page_token),
        pb.ListPromptVersionsResponse,
        lambda response: (list(response.versions), response.next_page_token),
    )


def set_label(name: str, label: str, version: str | int, etag: str | None) -> Operation[pb.PromptLabel]:
    message = pb.SetPromptLabelRequest(
        prompt=name, label=label, version=str(version), etag=etag, request_id=new_request_id()
    )
    return _prompt(message, pb.SetPromptLabelResponse, lambda response: response.label)


def delete_label(name: str, label: str) -> Operation[None]:
    message = pb.DeletePromptLabelRequest(prompt=name, label=label, request_id=new_request_id())
    return _prompt(message, pb.DeletePromptLabelResponse, nothing)


def delete_version(name: str, version: str | int) -> Operation[None]:
    message = pb.DeletePromptVersionRequest(prompt=name, version=str(version), request_id=new_request_id())
    return _prompt(message, pb.DeletePromptVersionResponse, nothing)


def delete_prompt(name: str, force: bool) -> Operation[None]:
    message = pb.DeletePromptRequest(prompt=name, force=force, request_id=new_request_id())
    return _prompt(message, pb.DeletePromptResponse, nothing)
