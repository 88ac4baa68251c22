"""The policy on a running server: an adapter of which every round makes a version."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from graft.client import Client, Conflict, DeadlineExceeded, NotFound, Unavailable
from graft.client.generation import Choice, Generation
from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.side_by_side import asked_again, each
from graft.training.reinforce.asking.sampler import Files, Prompt
from graft.training.reinforce.rollout import Rollout

ALIAS = "policy"
"""What rounds move. Users' requests go elsewhere: which version is good enough for them is the gate's to say."""
_CALL_SECONDS = 600.0
"""A prompt's answers are sampled together, beside users' own; a version goes to all engines."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How answers are sampled: at temperature 1 from all tokens always, so that the server's log-probabilities are the
    policy's.
    """

    num_answers: int
    max_tokens: int
    stop: Sequence[str] = ()
    """Texts that end an answer, too; they are no part of what graders read, but their tokens are learned."""
    num_streams: int = 4
    """Prompts that are answered at once, each so often. What is asked for is as many lines of the engine's batch beside
    users' own: few lengthen its steps little."""


class ServedPolicy:
    """A ``Sampler``. Before its first version the base itself answers: what a policy begins as that goes on from no
    adapter.
    """

    def __init__(
        self, client: Client, name: str, *, asking: Asking, num_kept: int = 2, alias: str | None = ALIAS
    ) -> None:
        """``name`` is the adapter's, whose newest ``num_kept`` versions stay on the server. Without an ``alias`` each
        is asked by its digest, so that several policies may share the adapter.
        """
        self._client, self._name, self._alias = client, name, alias
        self._asking, self._num_kept = asking, num_kept
        self._model = ""
        self._steps = {"": 0}
        """Of each version that this one published, by its digest."""
        self._publishing = threading.Lock()
        self._there: list[str] = []
        """Those that the server keeps, in their order."""

    def sample(self, prompts: Sequence[Prompt], *, seed: int) -> list[list[Rollout]]:
        """Raises ``ConfigurationError`` where somebody else moved the alias, and what the client raises."""
        numbered = list(enumerate(prompts))

        def answers(one: tuple[int, Prompt]) -> list[Rollout]:
            return self._answers(one[1], seed * len(prompts) + one[0], self._asking.num_answers)

        return each(answers, numbered, num_streams=self._asking.num_streams)

    def measure(self, prompts: Sequence[Prompt], *, num_answers: int = 1) -> list[list[Rollout]]:
        """Answers to each prompt, always by the same draws: what rewards are measured by."""
        streams = max(1, self._asking.num_streams * self._asking.num_answers // num_answers)
        return each(
            lambda one: self._answers(one[1], one[0], num_answers), list(enumerate(prompts)), num_streams=streams
        )

    def score(self, prompt_ids: Sequence[int], answers: Sequence[Sequence[int]]) -> list[list[float]]:
        """Raises what the client raises."""
        texts = [list(one) for one in answers]
        found = asked_again(
            lambda: self._client.score(list(prompt_ids), texts, model=self._model, timeout=_CALL_SECONDS)
        )
        return [[token.logprob for token in one.tokens] for one in found.scores]

    def publish(self, files: Files, *, step: int) -> str:
        """From memory to the server's slots. Raises what the client raises: then the version before answers on."""
        with self._publishing:  # the alias moves before this one knows whereto
            pushed = asked_again(
                lambda: self._client.push_adapter(files, name=self._name, alias=self._alias, timeout=_CALL_SECONDS)
            )
            digest: str = pushed.version.digest
            self._steps[digest] = step
        self._there = [*(one for one in self._there if one != digest), digest]
        self._model = f"{self._name}@{digest}" if self._alias is None else f"{self._name}:{self._alias}"
        self._forget()
        return digest

    def recall(self, origin: str | None) -> None:
        """Versions with this origin are its own, of a training before that was broken off. Raises what the client
        does.
        """
        with contextlib.suppress(NotFound):  # there is no such adapter yet
            found = asked_again(lambda: self._client.versions(self._name))
            own = sorted((one for one in found if one.lineage.job == origin), key=lambda one: one.number)
            self._there = [one.digest for one in own]

    def leave(self) -> None:
        """Nobody asks the policy any more: its versions go."""
        self._forget(num_kept=0)

    def _forget(self, *, num_kept: int | None = None) -> None:
        """The oldest go. Answers that are under way keep the weights that they began with."""
        old = self._there[: len(self._there) - (self._num_kept if num_kept is None else num_kept)]
        for digest in old:
            # Where another alias points there, it stays; and of a server that is away none need be missed.
            with contextlib.suppress(NotFound, Conflict, Unavailable, DeadlineExceeded):
                self._client.delete_version(self._name, digest)
        del self._there[: len(old)]

    def _answers(self, prompt: Prompt, seed: int, num: int) -> list[Rollout]:
        said = _said(self._client, self._model, prompt, self._asking, num=num, seed=seed)
        version = said.answerer.version_digest
        with self._publishing if version not in self._steps else contextlib.nullcontext():
            is_own = version in self._steps
        if not is_own:
            raise ConfigurationError(
                f"{version} answered for {self._model}, and this training did not make it: somebody else moved the "
                "alias. Give the policy a name of its own."
            )
        return [_rollout(prompt, choice, version, self._steps[version]) for choice in said.choices]


def answers_to(client: Client, model: str, prompt: Prompt, asking: Asking, *, seed: int) -> list[Rollout]:
    """What any model of the server answers, as a policy is sampled; empty is the base. Raises what the client does."""
    said = _said(client, model, prompt, asking, num=asking.num_answers, seed=seed)
    return [_rollout(prompt, choice, said.answerer.version_digest, 0) for choice in said.choices]


def _said(client: Client, model: str, prompt: Prompt, asking: Asking, *, num: int, seed: int) -> Generation:
    return client.generate(
        list(prompt.ids),
        model=model,
        num_choices=num,
        logprobs=0,
        timeout=_CALL_SECONDS,
        max_tokens=asking.max_tokens,
        temperature=1.0,
        top_p=1.0,
        stop=list(asking.stop),
        seed=seed % 2**31,
    )


def _rollout(prompt: Prompt, choice: Choice, version: str, step: int) -> Rollout:
    return Rollout(
        prompt_ids=prompt.ids,
        answer_ids=choice.token_ids,
        logprobs=[one.logprob for one in choice.logprobs],
        step=step,
        version=version,
        is_whole=choice.finish_reason == "stop",
        text=choice.text,
    )
