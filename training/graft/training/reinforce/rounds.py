"""The loop: what was sampled is graded and learned from, and what was learned samples next."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from statistics import fmean, pstdev
from typing import Self

from torch import nn

from graft.training.loop.step import Step
from graft.training.objective.reinforce.policy import MISMATCH
from graft.training.reinforce.asking.ahead import Ahead
from graft.training.reinforce.asking.sampler import Files, Prompt, Sampler
from graft.training.reinforce.batches import Laying
from graft.training.reinforce.choosing import Choosing, Chosen
from graft.training.reinforce.kl_control import AdaptiveKl
from graft.training.reinforce.lesson import Lesson
from graft.training.reinforce.recalling import with_recalled
from graft.training.reinforce.rollout import Group, Rollout

Grade = Callable[[Sequence[tuple[int, Rollout]]], Sequence[float | None]]
"""The worth of answers, each to the prompt of a row; None where nothing can be said of one. A draw's are graded
together: graders work on several at once."""

_NUM_SCORED = 8
"""Groups: about as many answers as a round of few prompts has."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a round is."""

    num_groups: int
    """Prompts that are learned from."""
    num_rounds: int = 1 << 62
    num_steps: int = 1
    """Of the optimizer, among which the round's answers are shared out."""
    ahead: int = 0
    """Rounds that are sampled while others are learned from. With 0 every answer is the newest policy's."""
    max_draws: int = 1
    """How often prompts are drawn until there are as many groups as that (DAPO's dynamic sampling)."""
    recalls: bool = False
    """Whether the policy before the round is asked about its answers: where several steps learn from a round, or
    answers are older than it."""
    asks_reference: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps > 1 and not self.recalls:
            raise ValueError(f"a round of {self.num_steps} steps has to recall what its answers were before the first")
        if self.ahead and not self.recalls:
            raise ValueError("answers that are older than the policy have to be recalled")


@dataclass(kw_only=True)
class Rounds:
    """A policy that learns. Its step's number tells how many steps it has taken."""

    plan: Plan
    step: Step
    sampler: Sampler
    prompts: Callable[[int], Sequence[Prompt]]
    """Of a draw: a function of its number alone."""
    grade: Grade
    lessons: Callable[[Sequence[Group], float], list[Lesson]]
    """Of graded groups, and what a nat of divergence costs in rewards."""
    laying: Laying
    files: Callable[[nn.Module], Files]
    """What of the model is published."""
    choosing: Choosing = field(default_factory=Choosing)
    kl: AdaptiveKl | None = None
    """What divergence costs in rewards, after the rounds so far; None is nothing."""

    def __post_init__(self) -> None:
        if self.kl is not None and not self.plan.asks_reference:
            raise ValueError("divergence from a reference costs something, and the reference is not asked")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._answers.close()

    def take(self, number: int, learning_rate: float) -> dict[str, float]:
        """One round: its metrics. A round without a group to learn from takes no step and publishes nothing."""
        begun = time.monotonic()
        given = self._answers.take(number)
        sampled = time.monotonic()
        chosen = self._chosen(given)
        found = self._learned(list(chosen.groups), number, learning_rate)
        learned = time.monotonic()
        if found:
            self.publish()
        seconds = {"sampling": sampled - begun, "learning": learned - sampled, "publishing": time.monotonic() - learned}
        told = {f"seconds/{name}": value for name, value in seconds.items()}
        return {**_told(given), **chosen.metrics, **found, **told}

    def publish(self) -> None:
        """What the policy is now answers from now on. Raises what the sampler raises."""
        self.sampler.publish(self.files(self.step.model), step=self.step.number)

    @cached_property
    def _answers(self) -> Ahead[list[Group]]:
        return Ahead(self._sampled, ahead=self.plan.ahead, end=self.plan.num_rounds)

    def _sampled(self, number: int) -> list[Group]:
        """All that was sampled for a round, until some of it shows enough directions."""
        plan, given = self.plan, list[Group]()
        for draw in range(number * plan.max_draws, (number + 1) * plan.max_draws):
            prompts = self.prompts(draw)
            answers = self.sampler.sample(prompts, seed=plan.seed + draw)
            given += self._graded(prompts, answers)
            newest = max(one.step for group in given for one in group.rollouts)
            if len(self.choosing.chosen(given, step=newest).groups) >= plan.num_groups:
                break
        return given

    def _graded(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[Rollout]]) -> list[Group]:
        asked = list(zip(prompts, answers, strict=True))
        rewards = iter(self.grade([(prompt.row, one) for prompt, own in asked for one in own]))
        return [
            Group(prompt=prompt.row, rollouts=own, rewards=list(islice(rewards, len(own)))) for prompt, own in asked
        ]

    def _chosen(self, given: Sequence[Group]) -> Chosen:
        """Groups to learn from, as old as they are by now."""
        chosen = self.choosing.chosen(given, step=self.step.number)
        kept = chosen.groups[: self.plan.num_groups]
        return Chosen(groups=kept, num_given=chosen.num_given, dropped=chosen.dropped)

    def _learned(self, groups: Sequence[Group], number: int, learning_rate: float) -> dict[str, float]:
        """Means over the round's steps; nothing where there are none."""
        step, plan, begin = self.step, self.plan, self.step.number
        if plan.recalls or plan.asks_reference:
            groups = with_recalled(step.model, groups, self.laying, step.layout, asks_reference=plan.asks_reference)
        mismatch = self._mismatch(groups)
        given = self.lessons(groups, 0.0 if self.kl is None else self.kl.beta)
        parts = self.laying.steps(given, num=plan.num_steps, seed=f"{plan.seed}/{number}", step=begin)
        found = [step.learn(step.prepare(batches), learning_rate) for batches in parts]
        if not found:
            return {}
        means = {name: fmean(one[name] for one in found) for name in found[0]}
        means |= {name: sum(one[name] for one in found) for name in ("tokens", "supervised_tokens")}
        means["staleness"] = fmean(one.rollout.age(begin) for one in given)
        if mismatch is not None:
            means[MISMATCH] = mismatch
        return {**means, **(self._priced(groups) if plan.asks_reference else {})}

    def _mismatch(self, groups: Sequence[Group]) -> float | None:
        """Where no answer is the newest policy's, some are scored by it: before the round's first step, server and
        trainer have the same weights. None where answers say it themselves.
        """
        answers = [one for group in groups for one in group.rollouts]
        if not answers or any(one.age(self.step.number) == 0 for one in answers):
            return None
        found = []
        for group in groups[:_NUM_SCORED]:
            scored = self.sampler.score(group.rollouts[0].prompt_ids, [one.answer_ids for one in group.rollouts])
            for memory, own in zip(group.memories, scored, strict=True):
                found += [abs(old - new) for old, new in zip(memory.old, own, strict=True)]
        return fmean(found)

    def _priced(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nats of divergence, by which the next round's price is set, and the price that they had."""
        divergence = fmean(one.kl for group in groups for one in group.memories)
        told = {"kl_per_answer": divergence}
        if self.kl is not None:
            told["kl_price"] = self.kl.beta
            self.kl = self.kl.after(divergence)
        return told


def _told(groups: Sequence[Group]) -> dict[str, float]:
    """Of all that was sampled."""
    rewards = [one for group in groups for one in group.rewards if one is not None]
    answers = [one for group in groups for one in group.rollouts]
    found = {
        "answers": float(len(answers)),
        "answer_tokens": fmean(len(one.answer_ids) for one in answers),
        "cut": fmean(not one.is_whole for one in answers),
    }
    return found | ({"reward": fmean(rewards), "reward_std": pstdev(rewards)} if rewards else {})
