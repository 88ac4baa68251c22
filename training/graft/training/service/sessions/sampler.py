"""One who samples from a version, or from the base: requests in any order, each done once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from graft.training.service.learning.answers import KEPT, Answers
from graft.training.service.learning.turns import AHEAD, Asked
from graft.training.service.refusal import Kind, Refusal
from graft.training.service.sessions.kept import Version
from graft.training.service.sessions.sampling import Sampling
from graft.training.service.sessions.served import Caller, Served


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be sampled."""

    ids: Sequence[int]
    num: int = 1
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    """None keeps all tokens."""
    seed: int | None = None
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    """An answer ends with the first of these."""
    ignores_end: bool = False
    """Goes on behind the base's own end tokens."""
    alternatives: int = 0
    """Likeliest tokens that are told of each place of an answer."""
    scores_prompt: bool = False
    num_scored: int | None = None
    """Of the prompt's last tokens; None is all."""


def wrong_prompt(ids: Sequence[int], *, num_tokens: int, max_tokens: int) -> list[str]:
    """What keeps a prompt from being answered. ``num_tokens``: of the vocabulary; ``max_tokens``: with the answer."""
    found = []
    if not 1 <= len(ids) < max_tokens:
        found.append(f"the prompt has {len(ids)} tokens; it may have 1 to {max_tokens - 1}")
    if wrong := [id for id in ids if id >= num_tokens]:
        found.append(f"the prompt has the token {wrong[0]}; tokens are from 0 to {num_tokens - 1}")
    return found


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One answer."""

    ids: Sequence[int]
    logprobs: Sequence[float]
    alternatives: Sequence[Sequence[tuple[int, float]]]
    """Of each token: ids and nats, the likeliest first."""
    is_whole: bool
    """Whether it ended by itself."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What came of a wish."""

    answers: Sequence[Sampled]
    prompt_logprobs: Sequence[float] | None
    """Nats of each of the prompt's tokens but the first."""
    num_cached: int


class Sampler:
    """May be asked from many threads."""

    def __init__(self, id: str, caller: Caller, served: Served, sampling: Sampling, version: Version | None) -> None:
        """None samples from the base."""
        self.id, self.caller, self.version = id, caller, version
        self._served, self._sampling = served, sampling
        self._lock = threading.Lock()
        self._answers = Answers()
        self._num_joined = 0

    def ask(self, asked: Asked, wish: Wish) -> Future[Any]:
        """The wish, and its ``Samples``. Raises ``Refusal``."""
        with self._lock:
            if (known := self._answers.again(asked.number, asked.digest)) is not None:
                return known
            if len(self._answers) >= AHEAD:
                raise Refusal(Kind.FULL, f"{AHEAD} answers may wait to be fetched: fetch some.")
            answer = self._answers.add(asked.number, asked.digest)
        model = "" if self.version is None else self.version.model
        act = lambda: (wish, sampled(self._served, self.caller, model, wish))  # noqa: E731
        self._sampling.submit(self.caller, act).add_done_callback(lambda done: _settle(answer, done))
        return answer

    def answer(self, number: int) -> Future[Any]:
        """What came or will come of a request. Raises ``Refusal``."""
        with self._lock:
            found = self._answers.of(number)
        if found is None:
            told = f"{self.id} has no answer {number}: the last {KEPT} that were fetched are kept."
            raise Refusal(Kind.GONE, told)
        return found

    def hand_over(self, number: int) -> None:
        with self._lock:
            self._answers.hand_over(number)

    def join(self) -> int:
        """A number for another process that samples by the same name."""
        with self._lock:
            self._num_joined += 1
            return self._num_joined


def sampled(served: Served, caller: Caller, model: str, wish: Wish) -> Samples:
    """By a model of the server; an empty name is the base. Raises ``Refusal``."""
    options: dict[str, Any] = {
        "temperature": wish.temperature,
        "top_p": wish.top_p,
        "seed": wish.seed,
        "ignore_eos": wish.ignores_end,
        "max_tokens": wish.max_tokens,
        "top_k": wish.top_k,
        "stop": list(wish.stop) or None,
    }
    said = served.generate(
        caller,
        wish.ids,
        model=model,
        num_choices=wish.num,
        logprobs=wish.alternatives,
        **{name: value for name, value in options.items() if value is not None},
    )
    prompt = None
    if wish.scores_prompt:
        prompt = served.prompt_logprobs(caller, wish.ids, model=model) if len(wish.ids) > 1 else []
    answers = [_cut(choice, wish.stop_ids) for choice in said.choices]
    return Samples(answers=answers, prompt_logprobs=prompt, num_cached=said.usage.cached_tokens)


def _cut(choice: Any, stop_ids: Sequence[int]) -> Sampled:
    """The server knows no stop tokens but its own: tokens are drawn one after the other, so what lies behind one is
    left out, and what stays is what would have been sampled.
    """
    end = next((at + 1 for at, id in enumerate(choice.token_ids) if id in stop_ids), None)
    own = slice(0, end)
    return Sampled(
        ids=choice.token_ids[own],
        logprobs=[one.logprob for one in choice.logprobs[own]],
        alternatives=[[(each.token_id, each.logprob) for each in one.alternatives] for one in choice.logprobs[own]],
        is_whole=end is not None or choice.finish_reason == "stop",
    )


def _settle(answer: Future[Any], done: Future[Any]) -> None:
    if (error := done.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())
