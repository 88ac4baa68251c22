"""A base or an adapter of a running server."""

from __future__ import annotations

from collections.abc import Sequence

from graft.client import Client, InvalidArgument, PromptLike, SamplingOptions
from graft.training.evaluation.asking.model import Asked, Decoding, Prompt, Refused, Scored

BASE = "base"
"""The name by which users mean the base itself."""


class ServedModel:
    """Asks by ``Generate`` and ``Score``."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._client, self._model = client, "" if name == BASE else name

    def say(self, asked: Asked, decoding: Decoding) -> tuple[str, ...]:
        try:
            said = self._client.generate(
                _wire(asked.prompt),
                model=self._model,
                num_choices=decoding.num_paths,
                **_sampling(decoding),
            )
        except InvalidArgument as error:
            raise Refused.by(error) from None
        return tuple(choice.text for choice in said.choices)

    def score(self, asked: Asked, continuations: Sequence[str]) -> tuple[Scored, ...]:
        try:
            reply = self._client.score(_wire(asked.prompt), continuations, model=self._model)
        except InvalidArgument as error:
            raise Refused.by(error) from None
        return tuple(Scored(logprob=score.logprob, is_greedy=score.is_greedy) for score in reply.scores)


def _wire(prompt: Prompt) -> PromptLike:
    if isinstance(prompt, str):
        return prompt
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def _sampling(decoding: Decoding) -> SamplingOptions:
    options: SamplingOptions = {"max_tokens": decoding.max_tokens, "temperature": decoding.temperature}
    if decoding.stop:
        options["stop"] = list(decoding.stop)
    if decoding.seed is not None:
        options["seed"] = decoding.seed
    if decoding.json_schema is not None:
        options["json_schema"] = dict(decoding.json_schema)
    return options
