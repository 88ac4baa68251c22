"""When a canary becomes `stable`, and when it is taken back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from graft.server.releases.policy.evidence import Losses, is_worse

CANARY = "canary"
"""The alias through which a rollout's version gets its share."""
_LEAST_OF_STABLE = 20
"""What `stable` has to have of answers, or outcomes, before anything is called no worse than it."""


@dataclass(frozen=True, kw_only=True)
class CanarySpec:
    """The rules (see `CanarySpec` of job.proto)."""

    share_percent: int = 10
    num_answers: int = 200
    max_false_alarm: float = 0.05
    tolerance: float = 0.05
    needs_outcomes: bool = False


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What was counted of one side's answers; outcomes are from 0, useless, to 1."""

    num_answers: int = 0
    num_errors: int = 0
    num_outcomes: int = 0
    sum_outcomes: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            num_answers=self.num_answers + other.num_answers,
            num_errors=self.num_errors + other.num_errors,
            num_outcomes=self.num_outcomes + other.num_outcomes,
            sum_outcomes=self.sum_outcomes + other.sum_outcomes,
        )

    @property
    def errors(self) -> Losses:
        """Of the answers."""
        return Losses(num=self.num_answers, total=float(self.num_errors))

    @property
    def shortfalls(self) -> Losses:
        """Of the outcomes, from 1."""
        return Losses(
            num=self.num_outcomes, total=min(max(self.num_outcomes - self.sum_outcomes, 0.0), self.num_outcomes)
        )


class Verdict(StrEnum):
    """What follows from what was counted so far."""

    GO_ON = "go_on"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and its reasons."""

    verdict: Verdict
    reasons: tuple[str, ...] = field(default=())


def judge(spec: CanarySpec, canary: Tally, stable: Tally) -> Judgement:
    """By two rules, errors and outcomes, which share `max_false_alarm`.

    At any time: what is certainly worse is taken back. In the end, after `num_answers`: what is worse by more than the
    tolerance, certainly or not, is taken back; all else is promoted. The end waits for `stable` too: without answers of
    its own there is nothing that the canary could be no worse than.
    """
    rules = [("errors", canary.errors, stable.errors), ("outcomes, short of 1", canary.shortfalls, stable.shortfalls)]
    alarm = spec.max_false_alarm / len(rules)
    worse = [
        f"{_told(name, one, other)}: worse, by a test that is ever wrong with a probability of {alarm:g} at most"
        for name, one, other in rules
        if is_worse(one, other, max_false_alarm=alarm)
    ]
    if worse:
        return Judgement(verdict=Verdict.ROLL_BACK, reasons=tuple(worse))
    decisive, what = (1, "outcomes") if spec.needs_outcomes else (0, "answers")
    num, num_of_stable = rules[decisive][1].num, rules[decisive][2].num
    if num < spec.num_answers or num_of_stable < min(spec.num_answers, _LEAST_OF_STABLE):
        return Judgement(verdict=Verdict.GO_ON)
    beyond = [
        f"{_told(name, one, other)}: worse by more than {spec.tolerance:g} after {num} {what}"
        for name, one, other in rules
        if one.num and other.num and one.mean - other.mean > spec.tolerance
    ]
    if beyond:
        return Judgement(verdict=Verdict.ROLL_BACK, reasons=tuple(beyond))
    told = [_told(name, one, other) for name, one, other in rules if one.num]
    return Judgement(verdict=Verdict.PROMOTE, reasons=(f"no worse than stable in {num} {what}: {'; '.join(told)}",))


def _told(name: str, one: Losses, other: Losses) -> str:
    return f"{name} {_share(one)} against {_share(other)} of stable"


def _share(losses: Losses) -> str:
    return f"{losses.total:g} of {losses.num}"
