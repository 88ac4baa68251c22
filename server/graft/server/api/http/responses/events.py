"""A response's events in OpenAI's order, made of a chat's chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graft.server.api.http.responses.output import (
    Item,
    call_item,
    ended,
    logprobs_of,
    message_item,
    reasoning_item,
)

Event = dict[str, Any]


class Events:
    """`response.created` first, `response.completed` or `response.incomplete` last, all numbered from 0."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        self._response = dict(response)
        self._number = 0
        self._output: list[Item] = []
        self._open: Item | None = None
        self._finish: str | None = None
        # What only the last frames say: usage, and what programs tell beside the answer.
        self._told: dict[str, Any] = {}

    def begin(self) -> Iterator[Event]:
        for kind in ("created", "in_progress"):
            yield self._event(f"response.{kind}", response=dict(self._response))

    def of(self, frame: Mapping[str, Any]) -> Iterator[Event]:
        """What one chunk adds."""
        self._told |= {name: frame[name] for name in ("usage", "graft") if frame.get(name)}
        for choice in frame.get("choices", ()):
            delta = choice.get("delta") or {}
            if delta.get("reasoning"):
                yield from self._reasoned(delta["reasoning"])
            if delta.get("content"):
                yield from self._said(delta["content"], logprobs_of(choice))
            elif self._open is not None and self._open["type"] == "message":
                # Of tokens without a text of their own, the end among them.
                self._open["content"][0]["logprobs"] += logprobs_of(choice)
            for piece in delta.get("tool_calls") or ():
                yield from self._called(piece)
            self._finish = choice.get("finish_reason") or self._finish

    def end(self) -> Iterator[Event]:
        if not self._output:
            yield from self._begin_item(message_item("", status="in_progress"))
        yield from self._end_item(is_cut=self._finish == "length")
        last = {**self._told, "choices": [{"finish_reason": self._finish}]}
        response = ended(self._response, self._output, last)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, message: str, code: str, param: str | None) -> Iterator[Event]:
        """The stream's end where it fails on its way."""
        yield self._event("error", code=code, message=message, param=param)
        error = {"code": "server_error", "message": message}
        response = {**self._response, "status": "failed", "error": error, "output": self._output}
        yield self._event("response.failed", response=response)

    def _event(self, kind: str, **parts: Any) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **parts}

    def _of_item(self, kind: str, **parts: Any) -> Event:
        assert self._open is not None
        return self._event(kind, item_id=self._open["id"], output_index=len(self._output) - 1, **parts)

    def _of_part(self, kind: str, **parts: Any) -> Event:
        return self._of_item(kind, content_index=0, **parts)

    def _reasoned(self, text: str) -> Iterator[Event]:
        if self._open is None or self._open["type"] != "reasoning":
            yield from self._end_item()
            yield from self._begin_item(reasoning_item("", status="in_progress"))
        assert self._open is not None
        self._open["content"][0]["text"] += text
        yield self._of_part("response.reasoning_text.delta", delta=text)

    def _said(self, text: str, logprobs: list[Any]) -> Iterator[Event]:
        if self._open is None or self._open["type"] != "message":
            yield from self._end_item()
            yield from self._begin_item(message_item("", status="in_progress"))
        assert self._open is not None
        part = self._open["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs
        yield self._of_part("response.output_text.delta", delta=text, logprobs=logprobs)

    def _called(self, piece: Mapping[str, Any]) -> Iterator[Event]:
        function = piece.get("function") or {}
        if piece.get("id"):
            yield from self._end_item()
            yield from self._begin_item(call_item(piece["id"], function["name"], "", status="in_progress"))
        if self._open is not None and function.get("arguments"):
            self._open["arguments"] += function["arguments"]
            yield self._of_item("response.function_call_arguments.delta", delta=function["arguments"])

    def _begin_item(self, item: Item) -> Iterator[Event]:
        self._open = item
        self._output.append(item)
        empty = {**item, "content": []} if "content" in item else dict(item)
        yield self._event("response.output_item.added", output_index=len(self._output) - 1, item=empty)
        if "content" in item:
            yield self._of_part("response.content_part.added", part=dict(item["content"][0]))

    def _end_item(self, *, is_cut: bool = False) -> Iterator[Event]:
        item = self._open
        if item is None:
            return
        item["status"] = "incomplete" if is_cut else "completed"
        if item["type"] == "function_call":
            told = {"name": item["name"], "arguments": item["arguments"]}
            yield self._of_item("response.function_call_arguments.done", **told)
        else:
            part = item["content"][0]
            if item["type"] == "message":
                told = {"text": part["text"], "logprobs": part["logprobs"]}
                yield self._of_part("response.output_text.done", **told)
            else:
                yield self._of_part("response.reasoning_text.done", text=part["text"])
            yield self._of_part("response.content_part.done", part=dict(part))
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=dict(item))
        self._open = None
