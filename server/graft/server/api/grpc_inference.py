"""`InferenceService`: messages in, `Serving` in between, messages out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from graft.server.api.grpc_inference_values import (
    answerer_message,
    check_prompt,
    delta_message,
    sampling_of,
    score_message,
)
from graft.server.api.grpc_types import Context
from graft.server.api.limits import MAX_CONTINUATIONS, Violations
from graft.server.api.text import Text
from graft.server.engine.engine import Sampling
from graft.server.serving import Serving, Ticket, new_request_id
from graft.v1 import common_pb2, inference_pb2_grpc
from graft.v1 import inference_pb2 as pb


class InferenceServicer(inference_pb2_grpc.InferenceServiceServicer):
    """Errors are raised as they are: the interceptors turn them into a status."""

    def __init__(self, serving: Serving, text: Text) -> None:
        self._serving = serving
        self._text = text

    async def Generate(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        violations = Violations()
        check_prompt(request.prompt, violations)
        sampling = sampling_of(request, violations)
        violations.raise_any()
        entered = self._serving.enter(
            model=request.model, request_id=new_request_id(), deadline_seconds=context.time_remaining()
        )
        async with entered as ticket:
            prompt_ids = await self._prompt_ids(request.prompt)
            async with aclosing(self._answer(ticket, prompt_ids, sampling)) as messages:
                async for message in messages:
                    yield message

    async def _answer(
        self, ticket: Ticket, prompt_ids: list[int], sampling: Sampling
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        room = max(1, self._text.max_model_tokens - len(prompt_ids))
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, room))
        usage = pb.Usage(prompt_tokens=len(prompt_ids))
        answerer: common_pb2.Answerer | None = answerer_message(ticket.answerer)
        unfinished = sampling.num_choices
        async with aclosing(self._serving.generate(ticket, prompt_ids, sampling)) as deltas:
            async for delta in deltas:
                usage.completion_tokens += len(delta.token_ids)
                usage.cached_tokens = max(usage.cached_tokens, delta.num_cached_tokens)
                unfinished -= delta.finish_reason is not None
                message = delta_message(delta)
                if answerer is not None:
                    message.answerer.CopyFrom(answerer)
                    answerer = None
                if not unfinished:
                    message.usage.CopyFrom(usage)
                yield message

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        violations = Violations()
        check_prompt(request.prompt, violations)
        _check_continuations(request, violations)
        violations.raise_any()
        entered = self._serving.enter(
            model=request.model, request_id=new_request_id(), deadline_seconds=context.time_remaining()
        )
        async with entered as ticket:
            prompt_ids = await self._prompt_ids(request.prompt)
            continuations = await self._continuation_ids(request, prompt_ids)
            scores = await self._serving.score(ticket, prompt_ids, continuations)
            usage = pb.Usage(prompt_tokens=len(prompt_ids), completion_tokens=sum(map(len, continuations)))
            return pb.ScoreResponse(
                answerer=answerer_message(ticket.answerer), scores=map(score_message, scores), usage=usage
            )

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        violations = Violations()
        check_prompt(request.prompt, violations)
        violations.raise_any()
        ids = await self._prompt_ids(request.prompt)
        return pb.TokenizeResponse(
            token_ids=ids, tokens=self._text.tokens(ids), max_model_tokens=self._text.max_model_tokens
        )

    async def _prompt_ids(self, prompt: pb.Prompt) -> list[int]:
        match prompt.WhichOneof("content"):
            case "text":
                return await self._text.encode(prompt.text, field="prompt.text")
            case "chat":
                messages = [{"role": one.role, "content": one.content} for one in prompt.chat.messages]
                return await self._text.render_chat(messages, field="prompt.chat")
            case _:
                return self._text.check_ids(prompt.token_ids.ids, field="prompt.token_ids.ids")

    async def _continuation_ids(self, request: pb.ScoreRequest, prompt_ids: list[int]) -> list[list[int]]:
        prompt = request.prompt.text if request.prompt.WhichOneof("content") == "text" else None
        return [
            await self._text.continuation(prompt, prompt_ids, text, field=f"continuations[{index}]")
            for index, text in enumerate(request.continuations)
        ]


def _check_continuations(request: pb.ScoreRequest, violations: Violations) -> None:
    if not 1 <= len(request.continuations) <= MAX_CONTINUATIONS:
        problem = f"has {len(request.continuations)} entries; allowed are 1 to {MAX_CONTINUATIONS}"
        violations.add("continuations", problem)
        return
    for index, text in enumerate(request.continuations):
        if not text:
            violations.add(f"continuations[{index}]", "is empty")
