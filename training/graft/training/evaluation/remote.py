"""Asking a running server."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

from graft.client import Client, SamplingOptions
from graft.training.evaluation.answerer import Prompt

Answer = TypeVar("Answer")


class RemoteAnswerer:
    """One model of a server; requests run side by side so that the engine can batch them."""

    def __init__(self, client: Client, *, model: str = "", num_streams: int = 32) -> None:
        self.client, self.model, self.num_streams = client, model, num_streams

    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, stop: str | None) -> list[str]:
        sampling: SamplingOptions = {"max_tokens": max_tokens, "temperature": 0.0}
        if stop is not None:
            sampling["stop"] = [stop]
        return self._map(lambda prompt: self.client.generate(prompt, model=self.model, **sampling).text, prompts)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        def ask(prompt: Prompt) -> list[float]:
            reply = self.client.score(prompt, continuations, model=self.model)
            return [score.logprob for score in reply.scores]

        return self._map(ask, prompts)

    def _map(self, ask: Callable[[Prompt], Answer], prompts: Sequence[Prompt]) -> list[Answer]:
        with ThreadPoolExecutor(self.num_streams) as pool:
            return list(tqdm(pool.map(ask, prompts), total=len(prompts), unit="prompt", leave=False, disable=None))
