"""Asking a running server."""

from collections.abc import Sequence

from graft.client import Client, SamplingOptions
from graft.training.evaluation.answerer import Prompt
from graft.training.evaluation.asking.side_by_side import NUM_STREAMS, each


class RemoteAnswerer:
    """One model of a server; requests run side by side so that the engine can batch them."""

    def __init__(self, client: Client, *, model: str = "", num_streams: int = NUM_STREAMS) -> None:
        self.client, self.model, self.num_streams = client, model, num_streams

    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, stop: str | None) -> list[str]:
        sampling: SamplingOptions = {"max_tokens": max_tokens, "temperature": 0.0}
        if stop is not None:
            sampling["stop"] = [stop]

        def ask(prompt: Prompt) -> str:
            return self.client.generate(prompt, model=self.model, **sampling).text

        return each(ask, prompts, num_streams=self.num_streams)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        def ask(prompt: Prompt) -> list[float]:
            reply = self.client.score(prompt, continuations, model=self.model)
            return [score.logprob for score in reply.scores]

        return each(ask, prompts, num_streams=self.num_streams)
