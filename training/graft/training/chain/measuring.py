"""What the models of a chain answer to held-out prompts, what that is worth, and how far it is from the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from graft.client import Client
from graft.training.chain.settings import ChainSettings
from graft.training.evaluation.asking.side_by_side import asked_again, each
from graft.training.evaluation.statistics.intervals import Interval, mean_of
from graft.training.evaluation.statistics.pairs import Comparison, compare
from graft.training.reinforce.asking.asked_grader import AskedGrader
from graft.training.reinforce.asking.grader_faults import Tolerance
from graft.training.reinforce.asking.questions import Questions
from graft.training.reinforce.asking.served import Asking, answers_to
from graft.training.reinforce.rollout import Rollout

BASE, REFERENCE, POLICY = "base", "supervised", "policy"
_STREAMS = 4
_SCORE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """``rewards``: of each model to each held-out prompt, the mean over its answers; by the models' names."""

    rewards: Mapping[str, Sequence[float]]
    divergence: Sequence[float]
    """Of the policy from the supervised model, for each prompt: Σ log π − log π_ref of an answer, in nats."""
    examples: Mapping[str, Sequence[str]]
    seed: int
    max_kl: float

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """95 %, over the prompts."""
        return {name: mean_of(values, seed=self.seed) for name, values in self.rewards.items()}

    @property
    def gain(self) -> Comparison:
        """The policy's rewards minus the supervised model's, prompt by prompt."""
        return compare(self.rewards[REFERENCE], self.rewards[POLICY], seed=self.seed)

    @property
    def kl(self) -> Interval:
        return mean_of(self.divergence, seed=self.seed)

    @property
    def holds(self) -> bool:
        """Whether rewards rose beyond chance, and the divergence is below its bound beyond chance."""
        above = self.intervals[POLICY].low > self.intervals[REFERENCE].high
        return above and self.gain.low > 0 and self.kl.high < self.max_kl


def measured(
    client: Client,
    questions: Questions,
    settings: ChainSettings,
    *,
    grader: Mapping[str, Any],
    supervised: str,
    policy: str,
) -> Measured:
    """By the server that has both models, and by its base. Raises what the client does, and ``GradersFailed``."""
    models = {BASE: "", REFERENCE: supervised, POLICY: policy}
    asking = Asking(num_answers=settings.num_answers, max_tokens=settings.max_answer, num_streams=_STREAMS)
    # What is claimed rests on every answer: one that was not graded is worth no number.
    graded = AskedGrader(client, grader, questions.items, tolerance=Tolerance(max_share=0.0))
    answers = {
        name: each(
            lambda prompt, model=model: answers_to(client, model, prompt, asking, seed=prompt.row),  # type: ignore[misc]
            questions.prompts,
            num_streams=_STREAMS,
        )
        for name, model in models.items()
    }
    return Measured(
        rewards={name: _worth(graded, all_) for name, all_ in answers.items()},
        divergence=each(lambda own: fmean(_kl(client, supervised, own)), answers[POLICY], num_streams=_STREAMS),
        examples={name: [own[0].text for own in all_[:3]] for name, all_ in answers.items()},
        seed=settings.seed,
        max_kl=settings.max_kl,
    )


def _worth(graded: AskedGrader, answers: Sequence[Sequence[Rollout]]) -> list[float]:
    """The mean over each prompt's answers."""
    found = iter(graded([(row, one) for row, own in enumerate(answers) for one in own]))
    worth = [[next(found) for _ in own] for own in answers]
    return [fmean(one for one in own if one is not None) for own in worth]


def _kl(client: Client, reference: str, answers: Sequence[Rollout]) -> list[float]:
    """What the reference finds of them, against who sampled them."""
    prompt, texts = list(answers[0].prompt_ids), [list(one.answer_ids) for one in answers]
    found: Any = asked_again(lambda: client.score(prompt, texts, model=reference, timeout=_SCORE_SECONDS))
    return [sum(one.logprobs) - score.logprob for one, score in zip(answers, found.scores, strict=True)]
