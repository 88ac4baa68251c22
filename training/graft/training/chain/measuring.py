"""What the models of a chain answer to held-out prompts, what that is worth, and how far it is from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from graft.client import Client
from graft.training.chain.settings import ChainSettings
from graft.training.evaluation.asking.side_by_side import each
from graft.training.evaluation.statistics.intervals import Interval, mean_of
from graft.training.evaluation.statistics.pairs import Comparison, compare
from graft.training.job.publish import connect
from graft.training.reinforce.asking.grading import Judge
from graft.training.reinforce.asking.questions import Questions
from graft.training.reinforce.asking.served import Asking, ServedPolicy
from graft.training.reinforce.rollout import Rollout

_STREAMS = 4
_POLICY = "measured-policy"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """``rewards``: of each model to each held-out prompt, the mean over its answers; by the models' names."""

    rewards: Mapping[str, Sequence[float]]
    divergence: Sequence[float]
    """Of the policy from the supervised model, for each prompt: Σ log π − log π_ref of an answer, in nats."""
    examples: Mapping[str, Sequence[str]]
    seed: int
    max_kl: float

    def beside(self, base: Self) -> Self:
        """With what another server's base answered."""
        rewards = {"base": base.rewards["supervised"], **self.rewards}
        return replace(self, rewards=rewards, examples={"base": base.examples["supervised"], **self.examples})

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """95 %, over the prompts."""
        return {name: mean_of(values, seed=self.seed) for name, values in self.rewards.items()}

    @property
    def gain(self) -> Comparison:
        """The policy's rewards minus the supervised model's, prompt by prompt."""
        return compare(self.rewards["supervised"], self.rewards["policy"], seed=self.seed)

    @property
    def kl(self) -> Interval:
        return mean_of(self.divergence, seed=self.seed)

    @property
    def holds(self) -> bool:
        """Whether rewards rose beyond chance, and the divergence is below its bound beyond chance."""
        above = self.intervals["policy"].low > self.intervals["supervised"].high
        return above and self.gain.low > 0 and self.kl.high < self.max_kl


def measured(
    server: str, questions: Questions, judge: Judge, settings: ChainSettings, *, policy: Path | None = None
) -> Measured:
    """Of the base that is served, which is called supervised, and of an adapter of it."""
    asking = Asking(
        num_answers=settings.num_answers,
        max_tokens=settings.ppo.max_completion_length,
        stop=settings.ppo.stop,
        num_streams=_STREAMS,
    )
    with connect(server) as client:
        sampler = ServedPolicy(client, _POLICY, asking=asking)
        answers = {"supervised": sampler.measure(questions.prompts, num_answers=settings.num_answers)}
        divergence: list[float] = []
        if policy is not None:
            sampler.publish({path.name: path.read_bytes() for path in policy.iterdir() if path.is_file()}, step=1)
            answers["policy"] = sampler.measure(questions.prompts, num_answers=settings.num_answers)
            divergence = each(lambda own: fmean(_kl(client, own)), answers["policy"], num_streams=_STREAMS)
            client.delete_adapter(_POLICY, force=True)
    return Measured(
        rewards={name: [_worth(judge, row, own) for row, own in enumerate(all_)] for name, all_ in answers.items()},
        divergence=divergence,
        examples={name: [own[0].text for own in all_[:3]] for name, all_ in answers.items()},
        seed=settings.seed,
        max_kl=settings.max_kl,
    )


def _worth(judge: Judge, row: int, answers: Sequence[Rollout]) -> float:
    return fmean(one for one in judge.grade([(row, answer) for answer in answers]) if one is not None)


def _kl(client: Client, answers: Sequence[Rollout]) -> list[float]:
    """What the served base finds of them, against who sampled them."""
    found: Any = client.score(list(answers[0].prompt_ids), [list(one.answer_ids) for one in answers], model="")
    return [sum(one.logprobs) - score.logprob for one, score in zip(answers, found.scores, strict=True)]
