"""A program's answer in the form of a chat's or a completion's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from time import time
from typing import Any

from graft.server.api.http.openai_fields import CHAT, Endpoint
from graft.server.api.http.programs.call import ProgramCall
from graft.server.engine.engine import EngineError
from graft.server.engine.openai import Reply
from graft.server.prompting.reasoning.task import Growth
from graft.server.prompting.running.programs import Programs
from graft.server.prompting.running.running import Answer
from graft.server.serving import Ticket


async def run_reply(call: ProgramCall, endpoint: Endpoint, programs: Programs, ticket: Ticket) -> Reply:
    """The whole answer, or its frames where a stream was asked for."""
    form = _Form(call, endpoint, ticket)
    events = programs.run(call.prepared, ticket)
    if call.stream:
        return Reply(frames=_frames(form, events, include_usage=call.include_usage))
    answer = None
    async with aclosing(events):
        async for event in events:
            answer = event if isinstance(event, Answer) else answer
    if answer is None:
        raise EngineError("the program ended without an answer")
    return Reply(body=form.whole(answer))


def with_told(reply: Reply, call: ProgramCall) -> Reply:
    """The answer to the ordinary request of a program with what no field of OpenAI's has, as other programs' have it:
    beside the whole, or in the frame that ends the last choice.
    """
    told = _told_of(
        shown=call.prepared.fitted.shown, dropped=call.prepared.fitted.dropped, notices=call.prepared.notices
    )
    if not told or call.body is None:
        return reply
    if reply.frames is not None:
        return Reply(frames=_with_told(reply.frames, told, num_choices=call.body.get("n") or 1))
    return Reply(body=None if reply.body is None else {**reply.body, "graft": told})


async def _with_told(
    frames: AsyncGenerator[dict[str, Any], None], told: Mapping[str, Any], *, num_choices: int
) -> AsyncGenerator[dict[str, Any], None]:
    async with aclosing(frames):
        async for frame in frames:
            ended = sum(choice.get("finish_reason") is not None for choice in frame.get("choices", ()))
            num_choices -= ended
            yield {**frame, "graft": told} if ended and num_choices == 0 else frame


def _told_of(*, shown: Sequence[int], dropped: Sequence[int], notices: Sequence[str], **more: Any) -> dict[str, Any]:
    told = {"shown_demonstrations": list(shown), "dropped_demonstrations": list(dropped), "notices": list(notices)}
    return {name: value for name, value in (told | more).items() if value}


async def _frames(
    form: _Form, events: AsyncGenerator[Growth | Answer, None], *, include_usage: bool
) -> AsyncGenerator[dict[str, Any], None]:
    yield form.first()
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Growth):
                yield form.grown(event)
                continue
            yield form.last(event)
            if include_usage:
                yield form.usage_alone(event)


class _Form:
    """The objects of one answer."""

    def __init__(self, call: ProgramCall, endpoint: Endpoint, ticket: Ticket) -> None:
        self._call = call
        self._is_chat = endpoint is CHAT
        self._ticket = ticket
        self._created = int(time())

    def whole(self, answer: Answer) -> dict[str, Any]:
        finish = _finish(answer)
        if self._is_chat:
            message = {"role": "assistant", "content": answer.reasoned.answer, **_reasoning(answer.reasoned.rationale)}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        else:
            choice = {"index": 0, "text": answer.reasoned.answer, "logprobs": None, "finish_reason": finish}
        kind = "chat.completion" if self._is_chat else "text_completion"
        return {**self._head(kind), "choices": [choice], "usage": self._usage(answer), "graft": self._told(answer)}

    def first(self) -> dict[str, Any]:
        delta = {"role": "assistant", "content": ""}
        return self._frame({"delta": delta} if self._is_chat else {"text": ""}, None)

    def grown(self, growth: Growth) -> dict[str, Any]:
        if not self._is_chat:
            return self._frame({"text": growth.answer}, None)
        delta = _reasoning(growth.rationale) | ({"content": growth.answer} if growth.answer else {})
        return self._frame({"delta": delta}, None)

    def last(self, answer: Answer) -> dict[str, Any]:
        frame = self._frame({"delta": {}} if self._is_chat else {"text": ""}, _finish(answer))
        return {**frame, "graft": self._told(answer)}

    def usage_alone(self, answer: Answer) -> dict[str, Any]:
        return {**self._head(self._chunk), "choices": [], "usage": self._usage(answer)}

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _frame(self, grown: dict[str, Any], finish: str | None) -> dict[str, Any]:
        choice = {"index": 0, **grown, "logprobs": None, "finish_reason": finish}
        return {**self._head(self._chunk), "choices": [choice]}

    def _head(self, kind: str) -> dict[str, Any]:
        name = f"{'chatcmpl' if self._is_chat else 'cmpl'}-{self._ticket.engine_id}"
        return {"id": name, "object": kind, "created": self._created, "model": self._call.model}

    def _usage(self, answer: Answer) -> dict[str, Any]:
        meter = self._ticket.meter
        return {
            "prompt_tokens": meter.num_prompt_tokens,
            "completion_tokens": meter.num_completion_tokens,
            "total_tokens": meter.num_prompt_tokens + meter.num_completion_tokens,
            "prompt_tokens_details": {"cached_tokens": meter.num_cached_tokens} | self._virtual(),
            "completion_tokens_details": {"reasoning_tokens": answer.reasoned.cost.reasoning_tokens},
        }

    def _virtual(self) -> dict[str, int]:
        """Of the prompt tokens, those that an adapter's soft prompt is."""
        num_virtual = self._ticket.num_virtual_tokens * self._ticket.meter.num_prompts
        return {"virtual_tokens": num_virtual} if num_virtual else {}

    def _told(self, answer: Answer) -> dict[str, Any]:
        """What no field of OpenAI's has."""
        choice, checked = answer.choice, answer.checked
        told: dict[str, Any] = {
            "votes": [
                {"answer": one.answer, "num_paths": one.num_paths, "weight": one.weight}
                for one in answer.reasoned.votes
            ],
        }
        if choice is not None:
            told["choices"] = [
                {"choice": one.text, "probability": one.probability, "logprob": one.logprob} for one in choice.choices
            ]
        if checked is not None:
            told["citations"] = [
                {
                    "marker": one.marker,
                    "document": one.document,
                    "passage": one.passage,
                    "exists": one.exists,
                    "overlap": one.overlap,
                    "sentence": one.sentence,
                    "missing_quotes": list(one.missing_quotes),
                }
                for one in checked.citations
            ]
            told["unsupported_sentences"] = [one.sentence for one in checked.unsupported]
        return _told_of(shown=answer.shown, dropped=answer.dropped, notices=answer.notices, **told)


def _finish(answer: Answer) -> str:
    return "stop" if answer.reasoned.finished else "length"


def _reasoning(text: str) -> dict[str, str]:
    """Under both names in use."""
    return {"reasoning": text, "reasoning_content": text} if text else {}
