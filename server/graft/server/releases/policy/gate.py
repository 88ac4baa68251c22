"""Whether what a version showed on held-out data lets it answer for its adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graft.server.releases.policy.canary import CanarySpec


@dataclass(frozen=True, kw_only=True)
class ValidationLoss:
    """The mean negative log-probability of the held-out answers' tokens."""


@dataclass(frozen=True, kw_only=True)
class EvaluationTask:
    """A task of `graft evaluate`, by name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class GraderMetric:
    """OpenAI's grader, as its object."""

    grader: Mapping[str, Any]


Metric = ValidationLoss | EvaluationTask | GraderMetric


@dataclass(frozen=True, kw_only=True)
class GateSpec:
    """What a job's version must show (see `GateSpec` of job.proto). `file` None: the job's validation file."""

    metric: Metric
    file: str | None = None
    min_gain_over_base: float = 0.0
    min_gain_over_stable: float = 0.0
    max_rows: int = 200
    canary: CanarySpec | None = None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the version with this digest (None: the base) scored, and how much better the candidate is."""

    digest: str | None
    score: Figure
    gain: Figure


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What a candidate showed; `contamination` are sentences that name held-out rows which it was trained on."""

    metric: str
    higher_is_better: bool
    num_questions: int
    candidate: Figure
    base: Comparison
    stable: Comparison | None = None
    contamination: tuple[str, ...] = ()
    own_over_others: Figure | None = None
    """By how much the candidate finds answers likelier after their own questions than others' answers there."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What is known of the version's parity: whether it was compared, and why not where it was not."""

    was_compared: bool
    is_off: bool = False
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether the version takes traffic, and the reasons."""

    passed: bool
    reasons: tuple[str, ...]


_MIN_QUESTIONS = 6
"""Of fewer no interval says anything for certain: 2 / 2**5 is above 0.05 (as `graft evaluate gate` has it)."""


def decide(spec: GateSpec, report: GateReport, parity: Parity) -> Decision:
    """All that speaks against it at once, else what speaks for it."""
    if report.contamination:
        return Decision(passed=False, reasons=(f"the gate's data are contaminated: {'; '.join(report.contamination)}",))
    against = [*_against(spec, report), *_against_parity(parity)]
    if against:
        return Decision(passed=False, reasons=(*against, *_for(report)))
    return Decision(
        passed=True, reasons=(*_for(report), "its parity check is off" if parity.is_off else "parity holds")
    )


def _against(spec: GateSpec, report: GateReport) -> Iterator[str]:
    if report.num_questions < _MIN_QUESTIONS:
        yield f"{report.num_questions} questions tell nothing for certain: it takes {_MIN_QUESTIONS}"
    gain = report.base.gain
    if not gain.low > spec.min_gain_over_base:
        yield (
            f"the gain over the base is {_shown(gain)}: its lower end is not above the least of "
            f"{spec.min_gain_over_base:g}"
        )
    if report.own_over_others is not None and not report.own_over_others.low > 0:
        yield (
            f"answers after their own questions are likelier to it than others' by {_shown(report.own_over_others)}, "
            "which is not above 0 for certain: are the answers of the training shuffled?"
        )
    if report.stable is not None and not report.stable.gain.value >= spec.min_gain_over_stable:
        yield (
            f"the gain over stable is {_shown(report.stable.gain)}: it is below the least of "
            f"{spec.min_gain_over_stable:g}"
        )


def _against_parity(parity: Parity) -> Iterator[str]:
    if not parity.was_compared and not parity.is_off:
        why = f" ({parity.why})" if parity.why else ""
        yield f"its parity receipt says that nothing was compared{why}: push it with its trainer's reference"


def _for(report: GateReport) -> Iterator[str]:
    told = [f"{_shown(report.candidate)}", f"base {_shown(report.base.score)}"]
    if report.stable is not None:
        told.append(f"stable {_shown(report.stable.score)}")
    better = "higher" if report.higher_is_better else "lower"
    yield f"{report.metric} ({better} is better, {report.num_questions} questions): {', '.join(told)}"
    against = "" if report.stable is None else f", over stable {_shown(report.stable.gain)}"
    yield f"gain over the base {_shown(report.base.gain)}{against}"


def _shown(figure: Figure) -> str:
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"
