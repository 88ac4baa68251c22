"""`InferenceService`: messages in, `Serving` in between, messages out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace

from graft.adapters.catalog.snapshot import Resolved
from graft.server.api.classes import classified, pair, prompts_of
from graft.server.api.grpc.inference_messages import (
    answerer_message,
    check_continuations,
    check_inputs,
    check_prompt,
    classification_message,
    delta_message,
    input_field,
    prompt_field,
    sampling_of,
    score_message,
    usage_message,
)
from graft.server.api.grpc.types import Context
from graft.server.engine.engine import Sampling
from graft.server.engine.schema.structured_outputs import check_schema_text
from graft.server.engine.text import Text
from graft.server.operations.logs import current_request_id
from graft.server.runtime.roles import template_role
from graft.server.runtime.tenant import current_tenant
from graft.server.runtime.violations import Violations
from graft.server.serving import Serving, Ticket
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
        sampling = await self._text.beside(lambda: self._asked(request), request.ByteSize())
        if sampling.json_schema is not None:
            await asyncio.to_thread(
                check_schema_text, sampling.json_schema, "sampling.json_schema", ignore_eos=sampling.ignore_eos
            )
        resolved = self._serving.check(request.model, tenant=current_tenant())
        text = await self._serving.text_for(resolved, self._text)
        prompt_ids = await _prompt_ids(request.prompt, text)
        violations = Violations()
        text.check_fits(len(prompt_ids), field=prompt_field(request.prompt), violations=violations)
        violations.raise_any()
        async with (
            self._entered(request.model, resolved, context) as ticket,
            aclosing(self._answer(ticket, prompt_ids, sampling, text)) as messages,
        ):
            async for message in messages:
                yield message

    def _entered(self, model: str, resolved: Resolved, context: Context) -> AbstractAsyncContextManager[Ticket]:
        return self._serving.enter(
            model=model,
            tenant=current_tenant(),
            request_id=current_request_id(),
            deadline_seconds=context.time_remaining(),
            resolved=resolved,
        )

    def _asked(self, request: pb.GenerateRequest) -> Sampling:
        violations = Violations()
        check_prompt(request.prompt, self._text, violations)
        sampling = sampling_of(request, violations)
        violations.raise_any()
        return sampling

    async def _answer(
        self, ticket: Ticket, prompt_ids: list[int], sampling: Sampling, text: Text
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        sampling = replace(sampling, max_tokens=text.bounded(sampling.max_tokens, len(prompt_ids)))
        answerer: common_pb2.Answerer | None = answerer_message(ticket.answerer)
        async with aclosing(self._serving.generate(ticket, prompt_ids, sampling)) as deltas:
            async for delta in deltas:
                message = delta_message(delta)
                if answerer is not None:
                    message.answerer.CopyFrom(answerer)
                    message.id = current_request_id()
                    answerer = None
                if not ticket.meter.num_open:
                    message.usage.CopyFrom(usage_message(ticket))
                yield message

    async def Score(self, request: pb.ScoreRequest, context: Context) -> pb.ScoreResponse:
        await self._text.beside(lambda: self._check_score(request), request.ByteSize())
        resolved = self._serving.check(request.model, tenant=current_tenant())
        text = await self._serving.text_for(resolved, self._text)
        prompt_ids = await _prompt_ids(request.prompt, text)
        continuations = await self._continuation_ids(request, prompt_ids)
        _check_fit(request, prompt_ids, continuations, text)
        async with self._entered(request.model, resolved, context) as ticket:
            scores = await self._serving.score(ticket, prompt_ids, continuations)
            usage = pb.Usage(
                prompt_tokens=ticket.num_virtual_tokens + len(prompt_ids),
                completion_tokens=sum(map(len, continuations)),
                cached_tokens=ticket.meter.num_cached_tokens,
                virtual_tokens=ticket.num_virtual_tokens,
            )
            return pb.ScoreResponse(
                answerer=answerer_message(ticket.answerer), scores=map(score_message, scores), usage=usage
            )

    def _check_score(self, request: pb.ScoreRequest) -> None:
        violations = Violations()
        check_prompt(request.prompt, self._text, violations)
        check_continuations(request, self._text, violations)
        violations.raise_any()

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        await self._text.beside(lambda: self._check_classify(request), request.ByteSize())
        resolved = self._serving.check(request.model, tenant=current_tenant(), classifies=True)
        sources = {input_field(one, index): _source(one) for index, one in enumerate(request.inputs)}
        most = request.truncate_prompt_tokens if request.HasField("truncate_prompt_tokens") else None
        prompts = await prompts_of(sources, most, self._text)
        async with self._entered(request.model, resolved, context) as ticket:
            found = await self._serving.classify(ticket, prompts)
            answers = [classified(one, ticket.head) for one in found]
            return pb.ClassifyResponse(
                answerer=answerer_message(ticket.answerer),
                classifications=map(classification_message, answers),
                labels=ticket.head.labels if answers[0].probs else (),
                usage=usage_message(ticket),
            )

    def _check_classify(self, request: pb.ClassifyRequest) -> None:
        violations = Violations()
        check_inputs(request, self._text, violations)
        violations.raise_any()

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        await self._text.beside(lambda: self._check_prompt(request.prompt), request.ByteSize())
        ids = await _prompt_ids(request.prompt, self._text)
        return pb.TokenizeResponse(
            token_ids=ids, tokens=await self._text.tokens(ids), max_model_tokens=self._text.max_model_tokens
        )

    def _check_prompt(self, prompt: pb.Prompt) -> None:
        violations = Violations()
        check_prompt(prompt, self._text, violations)
        violations.raise_any()

    async def _continuation_ids(self, request: pb.ScoreRequest, prompt_ids: list[int]) -> list[list[int]]:
        if request.continuation_ids:
            return await self._text.beside(
                lambda: [list(one.ids) for one in request.continuation_ids], request.ByteSize()
            )
        prompt = request.prompt.text if request.prompt.WhichOneof("content") == "text" else None
        return await self._text.continuations(prompt, prompt_ids, request.continuations, field="continuations")


async def _prompt_ids(prompt: pb.Prompt, text: Text) -> list[int]:
    match prompt.WhichOneof("content"):
        case "text":
            return await text.encode(prompt.text, field="prompt.text")
        case "chat":
            turns = [{"role": template_role(one.role), "content": one.content} for one in prompt.chat.messages]
            return await text.render_chat(turns, field="prompt.chat.messages")
        case _:
            return list(prompt.token_ids.ids)


def _source(given: pb.ClassifyInput) -> str | list[int]:
    if given.WhichOneof("content") == "token_ids":
        return list(given.token_ids.ids)
    return pair(given.text, given.text_pair if given.HasField("text_pair") else None)


def _check_fit(
    request: pb.ScoreRequest, prompt_ids: list[int], continuations: Sequence[Sequence[int]], text: Text
) -> None:
    violations = Violations()
    name = "continuation_ids" if request.continuation_ids else "continuations"
    for index, ids in enumerate(continuations):
        num_tokens, field = len(prompt_ids) + len(ids), f"{name}[{index}]"
        text.check_fits(num_tokens, field=field, violations=violations, what="has with its prompt")
    violations.raise_any()
