"""Models of this server as graders: base and adapters, admitted and leased as any request's."""

from __future__ import annotations

import json
import secrets
from contextlib import AbstractAsyncContextManager, aclosing

from graft.adapters.catalog.snapshot import Resolved
from graft.server.engine.engine import InvalidRequest
from graft.server.engine.text import Text
from graft.server.grading.graders import JudgeSampling
from graft.server.grading.judging import Question, Turns, Verdict, Worth
from graft.server.grading.templates import TooLong
from graft.server.operations.logs import current_request_id
from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.program.program import Decoding, Output
from graft.server.prompting.running.served_model import ServedModel
from graft.server.runtime.tenant import current_tenant
from graft.server.serving import Serving, Ticket

_MAX_TOKENS = 1024


class ServedJudge:
    """A `Judge` over `Serving`."""

    def __init__(self, serving: Serving, text: Text) -> None:
        self._serving = serving
        self._text = text

    def check_reward(self, model: str) -> None:
        self._reward_model(model)

    async def worth(self, model: str, turns: Turns, answer: str) -> Worth:
        resolved = self._reward_model(model)
        text = await self._serving.text_for(resolved, self._text)
        ids = await text.render_answered(turns, answer, field="item.messages")
        if len(ids) >= text.max_model_tokens:
            least = text.max_model_tokens - 1
            raise TooLong(f"messages and answer have {len(ids)} tokens; a reward model reads {least} at most")
        async with self._entered(model, resolved) as ticket:
            (found,) = await self._serving.classify(ticket, [ids])
        return Worth(reward=found.logits[0], num_tokens=len(ids))

    def _reward_model(self, model: str) -> Resolved:
        """Raises `InvalidRequest` where it is none."""
        resolved = self._serving.check(model, tenant=current_tenant(), classifies=True)
        version = resolved.version
        if version is None or version.num_labels != 1:
            problem = f"{model} has a head of several classes, and a reward model says one number: name what a job of"
            raise InvalidRequest(f"{problem} the method reward has made", field="model")
        return resolved

    def _entered(self, model: str, resolved: Resolved) -> AbstractAsyncContextManager[Ticket]:
        request_id = current_request_id() or f"grader-{secrets.token_hex(8)}"
        return self._serving.enter(model=model, tenant=current_tenant(), request_id=request_id, resolved=resolved)

    def check(self, model: str) -> None:
        self._serving.check(model, tenant=current_tenant())

    async def ask(self, question: Question) -> Verdict:
        resolved = self._serving.check(question.model, tenant=current_tenant())
        text = await self._serving.text_for(resolved, self._text)
        prompt = Written(turns=tuple(WrittenTurn(role=role, content=content) for role, content in question.turns))
        async with self._entered(question.model, resolved) as ticket:
            asker = ServedModel(self._serving, text, ticket, default_max_tokens=_MAX_TOKENS)
            num_tokens = await asker.num_tokens(prompt)
            said = asker.ask(prompt, _decoding(question.sampling), output=_output(question))
            async with aclosing(said) as pieces:
                async for piece in pieces:
                    if piece.path is not None:
                        path = piece.path
        return Verdict(text=path.text, num_tokens=num_tokens + path.num_tokens, finished=path.finished)


def _decoding(sampling: JudgeSampling) -> Decoding:
    return Decoding(
        max_tokens=sampling.max_tokens, seed=sampling.seed, temperature=sampling.temperature, top_p=sampling.top_p
    )


def _output(question: Question) -> Output:
    if question.json_schema is not None:
        return Output(type="json_schema", json_schema=json.loads(question.json_schema))
    return Output(type="choices", choices=question.options) if question.options else Output()
