"""The policy on a running server: an adapter of which every round makes a version."""

from __future__ import annotations

from collections.abc import Sequence

from graft.client import Client
from graft.client.generation import Choice
from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.side_by_side import each
from graft.training.reinforce.rollout import Rollout
from graft.training.reinforce.sampler import Files, Prompt

ALIAS = "policy"
"""What rounds move. Users' requests go elsewhere: which version is good enough for them is the gate's to say."""


class ServedPolicy:
    """A ``Sampler``. Before its first version the base itself answers, as a policy of LoRA adapters begins."""

    def __init__(self, client: Client, name: str, *, num_answers: int, max_tokens: int) -> None:
        """``name`` is the adapter's."""
        self._client, self._name = client, name
        self._num_answers, self._max_tokens = num_answers, max_tokens
        self._model = ""
        self._steps = {"": 0}
        """Of each version that this one published, by its digest."""

    def sample(self, prompts: Sequence[Prompt], *, seed: int) -> list[list[Rollout]]:
        """Raises ``ConfigurationError`` where somebody else moved the alias, and what the client raises."""
        numbered = list(enumerate(prompts))
        return each(lambda one: self._answers(one[1], seed * len(prompts) + one[0]), numbered, about="sampling")

    def publish(self, files: Files, *, step: int) -> str:
        """From memory to the server's slots. Raises what the client raises: then the version before answers on."""
        pushed = self._client.push_adapter(files, name=self._name, alias=ALIAS)
        digest: str = pushed.version.digest
        self._steps[digest] = step
        self._model = f"{self._name}:{ALIAS}"
        return digest

    def _answers(self, prompt: Prompt, seed: int) -> list[Rollout]:
        said = self._client.generate(
            list(prompt.ids),
            model=self._model,
            num_choices=self._num_answers,
            logprobs=0,
            max_tokens=self._max_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=seed,
        )
        version = said.answerer.version_digest
        if version not in self._steps:
            raise ConfigurationError(
                f"{version} answered for {self._model}, and this training did not make it: somebody else moved the "
                "alias. Give the policy a name of its own."
            )
        return [_rollout(prompt, choice, version, self._steps[version]) for choice in said.choices]


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
