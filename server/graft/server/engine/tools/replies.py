"""A chat's answer with the calls that stand in its text, whole or as chunks, as OpenAI's types have them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from graft.server.engine.tools.reading import CallDelta, CallReader


class CallsInReply:
    """Reads one request's answer: each choice by a reader of its own."""

    def __init__(self) -> None:
        self._readers: dict[int, CallReader] = {}

    def body(self, answer: dict[str, Any]) -> dict[str, Any]:
        """A whole answer: `tool_calls` in place of the text of calls, `content` null where nothing else was said."""
        return {**answer, "choices": [self._whole(choice) for choice in answer["choices"]]}

    async def frames(self, frames: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[dict[str, Any], None]:
        """A stream's chunks; closing it closes theirs."""
        async with aclosing(frames):
            async for frame in frames:
                told = self.frame(frame)
                if told is not None:
                    yield told

    def frame(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        """A chunk; None where nothing can be told of it yet."""
        choices = [self._piece(choice) for choice in frame.get("choices", ())]
        if choices and "usage" not in frame and not any(map(_says_something, choices)):
            return None
        return {**frame, "choices": choices}

    def _whole(self, choice: dict[str, Any]) -> dict[str, Any]:
        reader = CallReader()
        said, last = reader.feed(choice["message"].get("content") or ""), reader.end()
        message = {**choice["message"], "content": said.content + last.content or None}
        if not said.calls:
            message["content"] = message["content"] or ""
            return {**choice, "message": message}
        message["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in said.calls
        ]
        return {**choice, "message": message, "finish_reason": _finish(choice, has_calls=True)}

    def _piece(self, choice: dict[str, Any]) -> dict[str, Any]:
        reader = self._readers.setdefault(choice["index"], CallReader())
        given = choice.get("delta") or {}
        said = reader.feed(given.get("content") or "")
        if choice.get("finish_reason") is not None:
            said.content += reader.end().content
        delta = {key: value for key, value in given.items() if key != "content"}
        if said.content or "role" in given:
            delta["content"] = said.content
        if said.calls:
            delta["tool_calls"] = [_delta(one) for one in said.calls]
        has_calls = reader.num_calls > 0 or reader.is_open
        return {**choice, "delta": delta, "finish_reason": _finish(choice, has_calls=has_calls)}


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice["delta"]) or choice.get("finish_reason") is not None or choice.get("logprobs") is not None


def _delta(one: CallDelta) -> dict[str, Any]:
    if one.id is None:
        return {"index": one.index, "function": {"arguments": one.arguments}}
    function = {"name": one.name, "arguments": one.arguments}
    return {"index": one.index, "id": one.id, "type": "function", "function": function}


def _finish(choice: dict[str, Any], *, has_calls: bool) -> str | None:
    reason: str | None = choice.get("finish_reason")
    return "tool_calls" if has_calls and reason == "stop" else reason
