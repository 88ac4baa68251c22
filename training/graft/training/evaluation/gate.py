"""Whether a candidate may take a baseline's place: the rule, its figures, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graft.training.errors import ConfigurationError
from graft.training.evaluation.asking.model import Model
from graft.training.evaluation.running.outcome import Outcome, metric_of
from graft.training.evaluation.running.run import Plan, check, evaluate
from graft.training.evaluation.statistics.pairs import Comparison, compare
from graft.training.evaluation.tasks.answers import withheld
from graft.training.evaluation.tasks.task import Task

MAX_P_VALUE = 0.05
MIN_QUESTIONS = 6
"""With fewer no exact two-sided test has a p below ``MAX_P_VALUE``: 2 / 2**5 is 0.0625."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``min_delta`` is the least difference (candidate minus baseline, from -1 to 1; in a perplexity's stead the mean
    log-probability's, in nats). Where ``is_certain`` the whole 95 % interval must lie at or above it, of at least
    ``MIN_QUESTIONS`` questions, and p be below ``MAX_P_VALUE`` unless ``min_delta`` allows a loss; else the difference
    itself. ``min_score`` is what the candidate must reach by itself.
    """

    min_delta: float = 0.0
    is_certain: bool = False
    min_score: float | None = None


@dataclass(frozen=True, kw_only=True)
class TaskVerdict:
    """One task's part in the decision."""

    task: str
    metric: str
    setting: str
    baseline: float
    candidate: float
    baseline_refused: int
    """Questions that could not be asked or judged; each counts as wrong."""
    candidate_refused: int
    comparison: Comparison
    passed: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """The decision: every task must pass."""

    baseline: str
    candidate: str
    tasks: tuple[TaskVerdict, ...]

    @property
    def passed(self) -> bool:
        return all(task.passed for task in self.tasks)

    def report(self) -> str:
        """The decision and its reasons, a line for each task."""
        head = f"{'PASS' if self.passed else 'FAIL'}: {self.candidate} in place of {self.baseline}"
        return "\n".join(
            [head, *(f"  {'pass' if one.passed else 'FAIL'}  {one.task}: {one.reason}" for one in self.tasks)]
        )


def gate(
    baseline: Model, candidate: Model, tasks: Sequence[Task], plan: Plan, rule: Rule, *, judge: Model | None = None
) -> GateVerdict:
    """Asks both models the same questions in one setting each task and decides.

    Raises:
        ConfigurationError: more than one setting is asked for, or one that does not fit a task.
        DataError: the server took none of a task's questions from either model.
        GraftClientError: the server failed.
    """
    if max(len(plan.shots), len(plan.reasoning), len(plan.votes)) > 1:
        raise ConfigurationError(
            "a gate asks in one setting: give one number of --shots, one --reasoning, one --votes."
        )
    if baseline.name == candidate.name:
        raise ConfigurationError(f"--baseline and --candidate are both {baseline.name}: name two models.")
    for task in tasks:
        check(withheld(task), plan, [baseline, candidate], judge)
    verdicts = []
    for task in tasks:
        before, after = evaluate([baseline, candidate], [task], replace(plan), judge=judge)
        verdicts.append(decide(before, after, rule))
    return GateVerdict(baseline=baseline.name, candidate=candidate.name, tasks=tuple(verdicts))


def decide(before: Outcome, after: Outcome, rule: Rule) -> TaskVerdict:
    """The rule on two outcomes of the same task. A model of which nothing could be asked was not measured: its marks
    of 0 are no figure to compare with, and the task fails.
    """
    key = before.main_key
    found = compare(before.marks(key), after.marks(key), seed=before.seed)
    score = after.interval(key).mean
    against = [*_unmeasured(before), *_unmeasured(after), *_against(found, after, key, rule)]
    told = (
        f"{key.removesuffix(',none')} {before.interval(key).mean:.4f} → {score:.4f}, "
        f"difference {found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
        f"p = {found.p_value:.3g} ({found.test}, {found.num} questions)"
    )
    refused = f"could not be asked or judged: {before.num_refused} → {after.num_refused}"
    return TaskVerdict(
        task=before.task.name,
        metric=key,
        setting=str(before.setting),
        baseline=before.interval(key).mean,
        candidate=score,
        baseline_refused=before.num_refused,
        candidate_refused=after.num_refused,
        comparison=found,
        passed=not against,
        reason="; ".join([told, refused, *against]),
    )


def _unmeasured(one: Outcome) -> Iterator[str]:
    if one.num_refused == len(one.records):
        yield f"none of the questions could be asked of {one.model} ({one.records[0].problem[:160]})"


def _against(found: Comparison, after: Outcome, key: str, rule: Rule) -> Iterator[str]:
    reached = found.low if rule.is_certain else found.difference
    tolerance = 1e-12
    if reached < rule.min_delta - tolerance:
        what = "lower end" if rule.is_certain else "difference"
        yield f"the {what} {reached:+.4f} is below the least of {rule.min_delta:+.4f}"
    if rule.is_certain and found.num < MIN_QUESTIONS:
        yield f"of {found.num} questions nothing is certain: it takes {MIN_QUESTIONS}"
    if rule.is_certain and rule.min_delta >= 0 and found.p_value >= MAX_P_VALUE:
        yield f"p = {found.p_value:.3g} is not below {MAX_P_VALUE}: the difference may be chance"
    score = after.interval(key).mean
    if rule.min_score is not None and not _reaches(after, key, score, rule.min_score):
        yield f"the candidate's {score:.4f} does not reach {rule.min_score:.4f}"


def _reaches(after: Outcome, key: str, score: float, least: float) -> bool:
    higher = metric_of(after.task, key).higher_is_better
    return score >= least if higher else score <= least
