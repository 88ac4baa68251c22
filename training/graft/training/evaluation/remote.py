"""Asking a running server."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tqdm import tqdm

from graft.client import Client, ResourceExhausted, SamplingOptions, Unavailable
from graft.training.evaluation.answerer import Prompt

Answer = TypeVar("Answer")

MAX_TRIES = 6


class RemoteAnswerer:
    """One model of a server; requests run side by side so that the engine can batch them."""

    def __init__(self, client: Client, *, model: str = "", num_streams: int = 32) -> None:
        self.client, self.model, self.num_streams = client, model, num_streams

    def complete(self, prompts: Sequence[Prompt], *, max_tokens: int, stop: str | None) -> list[str]:
        sampling: SamplingOptions = {"max_tokens": max_tokens, "temperature": 0.0}
        if stop is not None:
            sampling["stop"] = [stop]

        def ask(prompt: Prompt) -> str:
            return self.client.generate(prompt, model=self.model, **sampling).text

        return self._map(ask, prompts)

    def score(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[list[float]]:
        def ask(prompt: Prompt) -> list[float]:
            reply = self.client.score(prompt, continuations, model=self.model)
            return [score.logprob for score in reply.scores]

        return self._map(ask, prompts)

    def _map(self, ask: Callable[[Prompt], Answer], prompts: Sequence[Prompt]) -> list[Answer]:
        with ThreadPoolExecutor(self.num_streams) as pool:
            answers = pool.map(partial(_with_patience, ask), prompts)
            return list(tqdm(answers, total=len(prompts), unit="prompt", leave=False, disable=None))


def _with_patience(ask: Callable[[Prompt], Answer], prompt: Prompt) -> Answer:
    """Asks again while the server is full or replaces its engine; raises what it last said after ``MAX_TRIES``."""
    for num_failures in range(1, MAX_TRIES):
        try:
            return ask(prompt)
        except (ResourceExhausted, Unavailable) as error:
            time.sleep(error.retry_after_seconds or float(num_failures))
    return ask(prompt)
