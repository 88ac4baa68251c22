"""The model of one admitted request, as programs ask it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from graft.server.engine.engine import ContinuationScore, Delta, Sampling
from graft.server.engine.text import Text
from graft.server.prompting.asking import Path, Piece, Written
from graft.server.prompting.program.program import Decoding, Output
from graft.server.runtime.violations import Violations
from graft.server.serving import Serving, Ticket

_FIELD = "variables"
_NOT_SAMPLING = frozenset({"max_tokens"})


class ServedModel:
    """An `Asker` over one ticket: the adapter version is leased for all that is asked."""

    def __init__(self, serving: Serving, text: Text, ticket: Ticket, *, default_max_tokens: int) -> None:
        """`default_max_tokens`: of an answer, where the program does not say."""
        self._serving = serving
        self._text = text
        self._ticket = ticket
        self._default_max_tokens = default_max_tokens

    @property
    def max_model_tokens(self) -> int:
        return self._text.max_model_tokens

    async def num_tokens(self, prompt: Written) -> int:
        return len(await prompt_ids(prompt, self._text))

    async def ask(
        self,
        prompt: Written,
        decoding: Decoding,
        *,
        num_paths: int = 1,
        output: Output | None = None,
        with_logprob: bool = False,
    ) -> AsyncGenerator[Piece, None]:
        ids = await self._fitting(prompt)
        asked = decoding.max_tokens or self._default_max_tokens
        sampling = Sampling(
            **_sampling(decoding),
            **_contract(output),
            max_tokens=self._text.bounded(asked, len(ids)),
            num_choices=num_paths,
            logprobs=0 if with_logprob else None,
        )
        growing = [_Growing() for _ in range(num_paths)]
        async with aclosing(self._serving.generate(self._ticket, ids, sampling)) as deltas:
            async for delta in deltas:
                yield growing[delta.choice].piece(delta)

    async def score(self, prompt: Written, continuations: Sequence[str]) -> list[ContinuationScore]:
        ids = await self._fitting(prompt)
        tokens = await self._text.continuations(self._plain(prompt), ids, continuations, field="output.choices")
        violations = Violations()
        for index, one in enumerate(tokens):
            what, place = "has with its prompt", f"output.choices[{index}]"
            self._text.check_fits(len(ids) + len(one), field=place, violations=violations, what=what)
        violations.raise_any()
        return await self._serving.score(self._ticket, ids, tokens)

    def _plain(self, prompt: Written) -> str | None:
        """The text whose ids the prompt's are; None where marks or turns stand in it."""
        if prompt.text is None or self._text.unmarked(prompt.text) != prompt.text:
            return None
        return prompt.text + prompt.begun

    async def _fitting(self, prompt: Written) -> list[int]:
        ids = await prompt_ids(prompt, self._text)
        violations = Violations()
        self._text.check_fits(len(ids), field=_FIELD, violations=violations, what="make a prompt of")
        violations.raise_any()
        return ids


async def prompt_ids(prompt: Written, text: Text) -> list[int]:
    """Token ids of a prompt, its answer begun. What it begins with is always tokenized alone, so that a later stage's
    prompt begins with an earlier one's ids. Raises `BadInput`.
    """
    if prompt.text is not None:
        ids = await text.encode_marked(prompt.text, field=_FIELD)
    else:
        turns = [{"role": turn.role, "content": turn.content} for turn in prompt.turns]
        ids = await text.render_chat(turns, field=_FIELD)
    if not prompt.begun:
        return ids
    (begun,) = await text.continuations(None, ids, [prompt.begun], field=_FIELD)
    return [*ids, *begun]


@dataclass
class _Growing:
    text: list[str] = field(default_factory=list)
    num_tokens: int = 0
    logprob: float = 0.0

    def piece(self, delta: Delta) -> Piece:
        self.text.append(delta.text)
        self.num_tokens += len(delta.token_ids)
        self.logprob += sum(token.logprob for token in delta.logprobs)
        if delta.finish_reason is None:
            return Piece(index=delta.choice, text=delta.text, num_tokens=len(delta.token_ids))
        path = Path(
            text="".join(self.text),
            num_tokens=self.num_tokens,
            logprob=self.logprob,
            finished=delta.finish_reason == "stop",
        )
        return Piece(index=delta.choice, text=delta.text, num_tokens=len(delta.token_ids), path=path)


def _sampling(decoding: Decoding) -> dict[str, Any]:
    return {name: value for name, value in decoding if value is not None and name not in _NOT_SAMPLING}


def _contract(output: Output | None) -> dict[str, Any]:
    if output is None or output.type == "text":
        return {}
    if output.type == "json_schema":
        return {"json_schema": json.dumps(output.json_schema, ensure_ascii=False)}
    return {"regex": output.regex} if output.type == "regex" else {"options": output.choices}
