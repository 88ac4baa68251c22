"""Models of this server as graders: base and adapters, admitted and leased as any request's."""

from __future__ import annotations

import json
import secrets
from contextlib import aclosing

from graft.server.engine.text import Text
from graft.server.grading.graders import JudgeSampling
from graft.server.grading.judging import Question, Verdict
from graft.server.operations.logs import current_request_id
from graft.server.prompting.asking import Written, WrittenTurn
from graft.server.prompting.program.program import Decoding, Output
from graft.server.prompting.running.served_model import ServedModel
from graft.server.runtime.tenant import current_tenant
from graft.server.serving import Serving

_MAX_TOKENS = 1024


class ServedJudge:
    """A `Judge` over `Serving`."""

    def __init__(self, serving: Serving, text: Text) -> None:
        self._serving = serving
        self._text = text

    def check(self, model: str) -> None:
        self._serving.check(model, tenant=current_tenant())

    async def ask(self, question: Question) -> Verdict:
        tenant = current_tenant()
        resolved = self._serving.check(question.model, tenant=tenant)
        text = await self._serving.text_for(resolved, self._text)
        prompt = Written(turns=tuple(WrittenTurn(role=role, content=content) for role, content in question.turns))
        request_id = current_request_id() or f"grader-{secrets.token_hex(8)}"
        entered = self._serving.enter(model=question.model, tenant=tenant, request_id=request_id, resolved=resolved)
        async with entered as ticket:
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
